"""A loaded checkpoint's ONNX files: written, and each run once, since some families' graphs can be written alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from .parity import probe_batches
from .session import file_as_module


def write_onnx(loaded: LoadedModel, task: Task, target: Path, int8: Path | None, of: str = "") -> dict[str, int] | None:
    """Write a checkpoint's graph in float32, and in int8 if that has a file too.

    Args:
        of: for the line that says what is done.

    Returns:
        With int8, how many operators of each kind work on integers.

    Raises:
        InputError: it cannot be written, or what was written does not run.
    """
    batches = probe_batches(loaded, task)
    padded = batches["padded"]
    inputs = {name: padded[name] for name in loaded.input_names if name in padded}
    with busy(f"writing ONNX{of}"):
        write_graph(loaded.model, inputs, target, loaded.name)
    with _explained(loaded, "run"):
        _run(target, loaded, task, list(batches.values()))
    if int8 is None:
        return None
    with busy(f"quantising to int8{of}"), _explained(loaded, "be written in int8, and run"):
        operators = write_int8(target, int8)
        _run(int8, loaded, task, list(batches.values()))
    return operators


def _run(file: Path, loaded: LoadedModel, task: Task, batches: Sequence[Batch]) -> None:
    module = file_as_module(file, task, loaded.label_order, pad_token_of(loaded.model)).eval()
    with torch.inference_mode():
        for batch in batches:
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
