"""From a checkpoint to files that run without PyTorch: ONNX in float32 and int8, compared before they are published."""
