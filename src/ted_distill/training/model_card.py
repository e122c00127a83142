"""The model card of a finished stage: what the model is, its origin, its scores, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..output import command, short_name, versions
from ..tasks.base import Task
from .selection import described, score_title, shown_scores

CARD_NAME = "README.md"

_KINDS = {"finetune": "fine-tuned on", "learn_filters": "with filters for"}
_WHAT = {
    "finetune": "Fine-tuned on {task}.",
    "learn_filters": (
        "Fine-tuned on {task}. Beside it, in `filters.safetensors` and `filters.json`, are filters that extract from "
        "its hidden states what the task needs (Stage I of TED). `block_scores.json` holds the score of each block's "
        "filter head. The model itself is unchanged."
    ),
}


def write_card(
    folder: Path,
    what: str,
    task: Task,
    results: dict[str, Any],
    base_model: str,
    *,
    teacher: str | None = None,
    pairs: list[tuple[int, int]] | None = None,
    loss: str | None = None,
    text: str | None = None,
    kind: str | None = None,
) -> None:
    """Write `README.md` with the Hub's metadata.

    Args:
        what: `finetune`, `learn_filters`, or a method.
        results: scores in percent, and how the weights were chosen, see `training.selection`.
        pairs: (teacher block, student block).
        loss: what was minimised.
        text: how the model was made [that of `finetune` or `learn_filters`].
        kind: the same in two words, for the heading.
    """
    base_model, teacher = short_name(base_model), teacher and short_name(teacher)
    metadata: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": task.pipeline_tag,
        "tags": ["ted-distill", what.replace("_", "-")],
        "metrics": [task.metric],
    }
    lines = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False).strip(),
        "---",
        "",
        f"# {folder_title(base_model, task, kind or _KINDS[what])}",
    ]
    lines += ["", (text or _WHAT[what]).format(task=f"`{task.name}`"), ""]
    lines += (
        [f"- Teacher: `{teacher}`", f"- Student before distillation: `{base_model}`"]
        if teacher
        else [f"- From: `{base_model}`"]
    )
    if pairs:
        listed = ", ".join(f"{teacher_block} - {student_block}" for teacher_block, student_block in pairs)
        lines.append(f"- Pairs (teacher block - student block): {listed}")
    if loss:
        lines.append(f"- Loss: {loss}")
    lines += ["", "## Scores", "", " ".join(["In percent.", *described(results)]), "", "| score | value |", "|---|---|"]
    lines += [f"| {score_title(name, results)} | {value:.2f} |" for name, value in shown_scores(results).items()]
    lines += ["", "## How it was made", "", "```", command(), "```", ""]
    lines += [", ".join(f"{name} {number}" for name, number in versions().items()), ""]
    lines += ["The checkpoint loads with transformers alone; the filters play no part in its predictions.", ""]
    (folder / CARD_NAME).write_text("\n".join(lines), encoding="utf-8")


def folder_title(base_model: str, task: Task, kind: str) -> str:
    """A heading for the card."""
    return f"{Path(base_model).name} {kind} {task.name}"
