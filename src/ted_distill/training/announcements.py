"""What a training says in words: its first line, and why it stopped."""

from __future__ import annotations

from collections.abc import Sequence

from ..wording import counted, listed, noun
from .stage_arguments import StageArguments

_SHOWN_ROWS = 8


def first_line(args: StageArguments, rows: int | None, features: int | None, updates: int, epochs: float) -> str:
    """What a stage trains on, in how many updates, and on what.

    Args:
        rows, features: None for a stream, whose end is not known.
    """
    data = "a stream of rows" if rows is None else counted(rows, "row")
    data += f" ({counted(features, 'feature')})" if features not in (None, rows) else ""
    size, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    passes = "" if rows is None else f" in {epochs:.4g} {noun(1 if epochs == 1 else 2, 'epoch')}"
    duration = counted(updates, "update") + passes
    precision = "bf16 autocast" if args.bf16 else "fp16 autocast" if args.fp16 else "float32"
    batch = f"{size} per device x {accumulated} accumulated x {counted(args.world_size, 'process')}"
    return (
        f"{args.output_dir}: training on {data}, global batch {args.global_batch} = {batch}, "
        f"{duration}, on {args.device.type} in {precision}"
    )


def not_finite(step: int, rows: Sequence[int], kept: str | None, resumed_from: str | None) -> str:
    """Why a training stopped whose loss is no longer a number, and what to do.

    Args:
        rows: those of the step, counted from 0.
        kept: the last good checkpoint.
        resumed_from: the checkpoint that the training had been resumed from: to do so again would end the same.
    """
    remedy = "a lower learning_rate, more warmup_steps, max_grad_norm=1, or bf16 instead of fp16"
    where = f"the loss of step {step} is not a finite number; "
    where += f"the last good checkpoint is {kept}" if kept else "no checkpoint had been written yet"
    if resumed_from is None:
        elsewhere = " and another output_dir, as this one resumes as it was begun" if kept else ""
        return f"{where}; try {remedy}{elsewhere}"
    shown = listed([row + 1 for row in rows], _SHOWN_ROWS)
    return (
        f"{where}; it had been resumed from {resumed_from}, and would stop here again: the data of this step are a "
        f"likely cause{f' (training features {shown}, counted from 1)' if rows else ''}; look at them, or start in "
        f"another output_dir with {remedy}"
    )
