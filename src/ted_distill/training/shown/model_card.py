"""The model card of a finished stage: what the model is, its origin, its scores, how it is used, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedTokenizerBase

from ...output import command, short_name, versions
from ...output.cards import CARD_NAME, card_data, card_text, origin_of
from ...tasks.base import TEST, Task
from ...wording import listed
from ..scores.selection import SCORES_OF, described, score_title, shown_scores, split_of
from .card_usage import usage

_KINDS = {"finetune": "fine-tuned on", "learn_filters": "with filters for"}
_WHAT = {
    "finetune": "Fine-tuned on {task}.",
    "learn_filters": (
        "Fine-tuned on {task}. Beside it, in `filters.safetensors` and `filters.json`, are filters that extract from "
        "its hidden states what the task needs (Stage I of TED). `block_scores.json` holds the score of each block's "
        "filter head. The model itself is unchanged."
    ),
}
_SCORES, _MADE = "## Scores", "## How it was made"
"""Headings; scores are between them."""
_LOCAL = "local"
"""The type of a data set that is not on the Hub."""


def write_card(
    folder: Path,
    what: str,
    task: Task,
    results: dict[str, Any],
    base_model: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    teacher: str | None = None,
    called: str | None = None,
    start: str | None = None,
    pairs: list[tuple[int, int]] | None = None,
    loss: str | None = None,
    text: str | None = None,
    kind: str | None = None,
) -> None:
    """Write `README.md` with the Hub's metadata.

    Args:
        what: `finetune`, `learn_filters`, or a method.
        results: scores in percent, and how the weights were chosen, see `training.scores.selection`.
        base_model: what was trained, a folder or Hub id.
        tokenizer: whose limit is the model's.
        teacher: what a student learnt from, in words.
        called: what was trained, for the heading [the name of `base_model`].
        start: the same in words [its name].
        pairs: (teacher block, student block).
        loss: what was minimised.
        text: how the model was made [that of `finetune` or `learn_filters`].
        kind: the same in two words, for the heading.
    """
    title = folder_title(called or Path(short_name(base_model)).name, task, kind or _KINDS[what])
    data = card_data(
        origin_of(base_model), task.pipeline_tag, ["ted-distill", what.replace("_", "-")],
        datasets=hub_datasets(task), metrics=[task.metric], scores=eval_results(task, results), model_name=title,
    )  # fmt: skip
    lines = [f"# {title}", "", (text or _WHAT[what]).format(task=f"`{task.name}`"), ""]
    start = start or f"`{short_name(base_model)}`"
    lines += [f"- Teacher: {teacher}", f"- Student before distillation: {start}"] if teacher else [f"- From: {start}"]
    if task.label_names:
        lines.append(f"- Classes: {listed(task.label_names)}")
    if pairs:
        numbered = ", ".join(f"{teacher_block} - {student_block}" for teacher_block, student_block in pairs)
        lines.append(f"- Pairs (teacher block - student block): {numbered}")
    if loss:
        lines.append(f"- Loss: {loss}")
    if code := usage(task, task.longest(tokenizer)):
        lines += ["", "## How it is used", "", "```python", code, "```"]
    lines += ["", _SCORES, "", *_scores(task, results)]
    lines += ["", _MADE, "", "```", command(), "```", ""]
    lines += [", ".join(f"{name} {number}" for name, number in versions().items()), ""]
    lines += ["The checkpoint loads with transformers alone; the filters play no part in its predictions."]
    (folder / CARD_NAME).write_text(card_text(data, "\n".join(lines)), encoding="utf-8")


def with_scores(card: str, task: Task, results: dict[str, Any]) -> str:
    """A card that `write_card` wrote, with other scores in it and in the Hub's metadata."""
    read = ModelCard(card)
    data = ModelCardData(**read.data.to_dict())
    data.eval_results = eval_results(task, results) or None
    data.model_name = read.text.strip().partition("\n")[0].removeprefix("# ") if data.eval_results else None
    before, _, rest = read.text.partition(f"\n{_SCORES}\n")
    scores = "\n".join([_SCORES, "", *_scores(task, results), ""])
    return card_text(data, f"{before}\n{scores}\n{_MADE}{rest.partition(_MADE)[2]}")


def _scores(task: Task, results: dict[str, Any]) -> list[str]:
    """The table of scores, and what they are."""
    shown = shown_scores(results)
    others = [name for name in shown if task.lower_is_better and name.endswith(task.lower_is_better)]
    named = ", ".join(score_title(name, results) for name in others)
    said = f"In percent, except {named}, where lower is better." if others else "In percent."
    values = {name: f"{value:.4g}" if name in others else f"{value:.2f}" for name, value in shown.items()}
    table = [f"| {score_title(name, results)} | {value} |" for name, value in values.items()]
    return [" ".join([said, *described(results)]), "", "| score | value |", "|---|---|", *table]


def folder_title(name: str, task: Task, kind: str) -> str:
    """A heading for the card."""
    return f"{name} {kind} {task.name}"


def hub_datasets(task: Task) -> list[str]:
    """The Hub's name of the data set that a task trains on; none for files and for rows given in Python."""
    return [task.hub_data] if task.hub_data and "train" in task.rows else []


def eval_results(task: Task, results: dict[str, Any]) -> list[EvalResult]:
    """The scores of a model for the Hub's model-index; none where they are those of filter heads."""
    if SCORES_OF in results:
        return []
    splits: dict[str, Any] = results.get("scored_on", {})
    from_hub = (hub_datasets(task) or [_LOCAL])[0]
    found = []
    for name, value in shown_scores(results).items():
        of_test = TEST in splits and name.startswith(f"{TEST}_")
        split = TEST if of_test else split_of(name, task)
        score = name.removeprefix(f"{split.removeprefix('validation_')}_")
        if score not in task.score_names or split not in splits:
            continue
        source = str(splits[split]["from"])
        in_file = Path(source).suffix or from_hub == _LOCAL
        found.append(
            EvalResult(
                task_type=task.pipeline_tag,
                task_name=task.name,
                dataset_type=_LOCAL if in_file else from_hub,
                dataset_name=source,
                dataset_split=split,
                metric_type=score,
                metric_name=score if score in task.lower_is_better else f"{score}, in percent",
                metric_value=round(float(value), 4),
            )
        )
    return found
