"""A loaded checkpoint's ONNX files: written, and each run once, since some families' graphs can be written alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import InputError, reason_of
from ..method.filters import Batch
from ..models.load import LoadedModel
from ..models.trying.pad_tokens import pad_token_of
from ..progress import busy
from ..tasks import Task
from .graph import write_graph, write_int8
from .session import file_as_module


def write_float(loaded: LoadedModel, task: Task, target: Path, probes: Mapping[str, Batch], of: str = "") -> None:
    """Write a checkpoint's graph in float32.

    Args:
        probes: of `probe_batches`; the graph has their inputs.
        of: for the line that says what is done.

    Raises:
        InputError: it cannot be written, or what was written does not run.
    """
    padded = probes["padded"]
    inputs = {name: padded[name] for name in loaded.input_names if name in padded}
    with busy(f"writing ONNX{of}"):
        write_graph(loaded.model, inputs, target, loaded.name)
    with _explained(loaded, "run"):
        _run(target, loaded, task, probes)


def quantise(
    loaded: LoadedModel, task: Task, source: Path, target: Path, probes: Mapping[str, Batch], of: str = ""
) -> dict[str, int]:
    """Write the file of `write_float` again, in int8.

    Returns:
        How many operators of each kind work on integers.

    Raises:
        InputError: it cannot be written, or what was written does not run.
    """
    with busy(f"quantising to int8{of}"), _explained(loaded, "be written in int8, and run"):
        operators = write_int8(source, target)
        _run(target, loaded, task, probes)
    return operators


def _run(file: Path, loaded: LoadedModel, task: Task, probes: Mapping[str, Batch]) -> None:
    module = file_as_module(file, task, loaded.label_order, pad_token_of(loaded.model)).eval()
    with torch.inference_mode():
        for batch in probes.values():
            module(batch)


@contextmanager
def _explained(loaded: LoadedModel, what: str) -> Iterator[None]:
    """Turn errors of onnxruntime, which have no common class, into one line; those of the machine are not the model's.

    Raises:
        InputError: the graph cannot do `what`.
    """
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:
        raise InputError(
            f"export: expected the ONNX graph of {loaded.name} ({type(loaded.model).__name__}) to {what}, got an error "
            f"({type(error).__name__}: {reason_of(error)}); use a model of another family, or a newer transformers"
        ) from error
