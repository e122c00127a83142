"""`ted export`: a checkpoint in, ONNX files out, and a table of how far they are from it."""

from __future__ import annotations

import sys
from typing import Any


def read_export(words: list[str]) -> tuple[Any, ...] | None:
    """Checkpoint, folder and arguments of an export; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or not one or two names before the flags.
    """
    from ..export.arguments import ExportArguments
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments
    from .names import parse_names

    title = "A checkpoint as ONNX, in float32 and int8, published if it does what the checkpoint does."
    read = parse_names(
        "export CHECKPOINT [OUT]",
        title,
        (ExportArguments, TaskArguments, ModelArguments),
        words,
        counts=[1, 2],
        what="a checkpoint and a folder",
    )
    if read is None:
        return None
    names, parsed = read
    return (names[0], names[1] if names[1:] else None, *parsed)


def export(checkpoint: str, folder: str | None, arguments: Any, task: Any, loading: Any) -> None:
    """Export a checkpoint and print what came of it."""
    from ..export.exporting import export_onnx
    from ..export.table import table

    exported = export_onnx(
        checkpoint,
        folder,
        int8=arguments.int8,
        task=task,
        test=arguments.test,
        max_changed=arguments.max_changed,
        max_difference=arguments.max_difference,
        model_arguments=loading,
    )
    sys.stdout.write(f"{table(exported.about)}\n{exported.folder}\n")
