"""`ted export`: a checkpoint in, ONNX files out, and a table of how far they are from it."""

from __future__ import annotations

import sys
from typing import Any


def export_kinds() -> tuple[type, ...]:
    """The arguments of `ted export`."""
    from ..export.arguments import ExportArguments
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments

    return ExportArguments, TaskArguments, ModelArguments


def export(names: list[str], arguments: Any, task: Any, loading: Any) -> None:
    """Export a checkpoint and print what came of it."""
    from ..export.exporting import export_onnx
    from ..export.table import table

    checkpoint, folder = names[0], names[1] if names[1:] else None
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
