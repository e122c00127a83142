"""What is shown of a training: its progress, the curves in a file, the model card."""
