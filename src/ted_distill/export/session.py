"""An ONNX file that is used like the model it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..method.filters import FilteredModel
from ..tasks import Task


class OnnxModel(nn.Module):
    """A model in an ONNX file, run by onnxruntime on the CPU: tensors in, `ModelOutput` out.

    Args:
        threads: that onnxruntime uses [as many as PyTorch].
    """

    def __init__(self, file: str | Path, threads: int | None = None) -> None:
        from onnxruntime import InferenceSession, SessionOptions

        super().__init__()
        options = SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors
        # Threads that wait for the next call would take the time of whatever comes between.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.output_names = [value.name for value in self.session.get_outputs()]

    @property
    def signature(self) -> dict[str, dict[str, dict[str, Any]]]:
        """`inputs` and `outputs`: the type and the shape of each, as they are in the file."""
        return {
            "inputs": {value.name: _described(value) for value in self.session.get_inputs()},
            "outputs": {value.name: _described(value) for value in self.session.get_outputs()},
        }

    def forward(self, **inputs: Any) -> ModelOutput:
        """The outputs for those of the inputs that the graph has."""
        outputs = ModelOutput()
        for name, array in zip(self.output_names, self.run(self.feed(**inputs)), strict=True):
            outputs[name] = torch.from_numpy(array)
        return outputs

    def feed(self, **inputs: Any) -> dict[str, Any]:
        """What the graph takes of the inputs, as arrays."""
        return {name: _array(inputs[name]) for name in self.input_names if name in inputs}

    def run(self, feed: dict[str, Any]) -> list[Any]:
        """The outputs as arrays, in the order of `output_names`."""
        return self.session.run(self.output_names, feed)


def file_as_module(
    file: Path, task: Task, label_order: list[int] | None, pad_token_id: int | None, threads: int | None = None
) -> FilteredModel:
    """A file as the stages use a model: logits in the data's order; see `LoadedModel.as_module`."""
    onnx = OnnxModel(file, threads)
    return FilteredModel(
        cast(PreTrainedModel, onnx),  # which is called in the same way
        select_logits=task.logits,
        label_order=label_order,
        input_names=onnx.input_names,
        pad_token_id=pad_token_id,
    )


def _array(tensor: Tensor) -> Any:
    return tensor.to("cpu", torch.int64).numpy()


def _described(value: Any) -> dict[str, Any]:
    return {"type": value.type.removeprefix("tensor(").removesuffix(")"), "shape": list(value.shape)}
