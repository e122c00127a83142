"""The table at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..stages.methods import METHODS
from ..training.scores.selection import described, is_test_score, shown_scores
from ..wording import digits, told_together

NOT_A_SCORE = {
    "parameters", "seconds", "steps", "train_features", "search_seconds", "stage_one_seconds", "total", "best",
}  # fmt: skip
RESULT_KEYS = frozenset({
    *NOT_A_SCORE, "metric", "folder", "scored_on", "chosen_on", "chosen_by", "evaluations", "best_step",
    "learning_rate", "teacher_variances", "pair_weights", "trimmed",
})  # fmt: skip
"""Keys of a model's results besides its scores."""
BEST = "best"
"""Folder of the best student in that of a run."""
TRIMMED = "trimmed"
"""Key in the best student's results: the results of its copy with fewer tokens, which RUN/best then holds."""


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """A Markdown table with one row per model: its scores in percent, parameters and seconds of training.

    Scores on test rows come first. Below the table is on which rows each model was chosen, out of how many evaluations.
    """
    scores = _scores(next(iter(results.values())))
    rows = [["model", *scores, "parameters", "seconds", "folder"]]
    for name, result in results.items():
        values = [shown_score(score, result.get(score)) for score in scores]
        trimmed = result.get(TRIMMED)
        seconds = shown_seconds(result["seconds"], result.get("search_seconds"), result.get("stage_one_seconds"))
        folder = result.get("folder", "") + (f", {BEST}" if result.get("best") and not trimmed else "")
        rows.append([model_title(name, result), *values, f"{result['parameters']:,}", seconds, folder])
        if trimmed:
            values = [shown_score(score, trimmed.get(score)) for score in scores]
            rows.append([f"{model_title(name, result)}, trimmed", *values, f"{trimmed['parameters']:,}", "", BEST])
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    return "\n\n".join([markdown_table(rows), *_notes(results)])


def shown_score(name: str, value: float | None) -> str:
    """A score in percent with two decimals; an error, which has the unit of the data, with three digits."""
    return "" if value is None else digits(value) if name.endswith(("mse", "loss")) else f"{value:.2f}"


def _notes(results: dict[str, dict[str, Any]]) -> list[str]:
    """How each row's model was chosen, and a warning if not all are the best of equally many evaluations."""
    said = {model_title(name, result): " ".join(described(result)) for name, result in results.items()}
    notes = [f"- {names}: {text}" for names, text in told_together(said).items() if text]
    notes += [
        f"- {model_title(name, result)}, trimmed: {trimmed['tokens']:,} of {trimmed['of_tokens']:,} tokens, those of "
        "the training texts; scored again."
        for name, result in results.items()
        if (trimmed := result.get(TRIMMED))
    ]
    students = [result for name, result in results.items() if name in METHODS]
    chosen = {result["evaluations"] for result in students if result.get("chosen_on")}
    paragraphs = ["\n".join(notes)] if notes else []
    if len(chosen) > 1:
        paragraphs.append(
            "The best of more evaluations is higher by chance alone, and the students were not evaluated equally "
            f"often: {', '.join(map(str, sorted(chosen)))} times."
        )
    return paragraphs


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first row being the header, as a Markdown table that is also aligned on a screen."""
    cells = aligned(rows)
    first, *others = cells[0]
    rule = "|".join(["", "-" * (len(first) + 2), *("-" * (len(cell) + 1) + ":" for cell in others), ""])
    head, *lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([head, rule, *lines])


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells of a table with spaces, so that each column is as wide in all rows: the first left, others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]


def _scores(result: dict[str, Any]) -> list[str]:
    """Names of the scores worth a column: those on test rows first, and the task's own metric first among each."""
    found = [name for name in shown_scores(result) if name not in NOT_A_SCORE]
    found = [name for name in found if not name.startswith(("best_", "test_best_"))]
    kept = [name for name in found if not name.endswith(("_total", "_thresh"))]
    leading = result["metric"], f"test_{result['metric']}"
    return sorted(kept, key=lambda name: (not is_test_score(name, result), name not in leading))


def model_title(name: str, result: Mapping[str, Any]) -> str:
    """What a model of a run is called in tables: `KD`, or `student, fine-tuned`."""
    if name == "student" and "steps" in result:
        return "student, fine-tuned"
    return METHODS[name].title if name in METHODS else "student, before training" if name == "student" else name


def shown_seconds(training: float, search: float | None = None, stage_one: float | None = None) -> str:
    """The seconds of a model's training, and those of its search for the learning rate and of Stage I, if any."""
    more = {"search": search, "Stage I": stage_one}
    return " + ".join([f"{training:,.0f}", *(f"{seconds:,.0f} {name}" for name, seconds in more.items() if seconds)])
