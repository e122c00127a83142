"""What the display and the log say, word by word: compact lines, times, numbers."""

from __future__ import annotations

from ..wording import clock, digits
from .state import Loop, Score, StageState

_TERM = "_loss"


def rate(rows_per_second: float) -> str:
    """`210 rows/s`, `0.524 rows/s`."""
    return f"{digits(rows_per_second)} rows/s"


def heading(stage: StageState) -> str:
    """`stage 5 of 7: ted`."""
    return (f"stage {stage.number} of {stage.of}: " if stage.of else "") + stage.title


def steps_line(stage: StageState, run_left: float | None) -> str:
    """`ted: step 120 of 500, loss 0.412 (pred 0.31, match 0.05, layer 0.005), 210 rows/s, 1:40 left`."""
    parts = [f"step {stage.step:,} of {stage.steps:,}"]
    if stage.loss is not None:
        parts.append(losses(stage))
    return f"{stage.title}: {', '.join([*parts, *pace(stage, run_left)])}"


def losses(stage: StageState) -> str:
    """`loss 0.412 (pred 0.31, match 0.05, layer 0.005)`: the whole, and its terms before they are weighted."""
    terms = [f"{name.removesuffix(_TERM)} {digits(value)}" for name, value in stage.terms.items()]
    return f"loss {digits(stage.loss or 0.0)}" + (f" ({', '.join(terms)})" if len(terms) > 1 else "")


def pace(stage: StageState, run_left: float | None) -> list[str]:
    """Rows a second and the time left, as far as they are known."""
    parts = []
    if stage.rows_per_second is not None:
        parts.append(rate(stage.rows_per_second))
    if stage.seconds_left is not None:
        of_run = f" (run {clock(run_left)})" if run_left is not None else ""
        parts.append(f"{clock(stage.seconds_left)} left{of_run}")
    return parts


def score_line(stage: StageState, score: Score) -> str:
    """`ted: step 120: spearmanr 83.21 (best 83.21, teacher 84.80)`."""
    beside = ", ".join([f"best {score.best:.2f}", *_beside(score)])
    return f"{stage.title}: step {score.step:,}: {named(score)} ({beside})"


def scores(score: Score) -> str:
    """`spearmanr 83.21 at step 120, best 83.40 at step 80, teacher 84.80`."""
    parts = [f"{named(score)} at step {score.step:,}", f"best {score.best:.2f} at step {score.best_step:,}"]
    return ", ".join([*parts, *_beside(score)])


def named(score: Score) -> str:
    """`spearmanr 83.21`, or `spearmanr (mean over filter heads) 83.21`."""
    return f"{score.name}{f' ({score.of})' if score.of else ''} {score.value:.2f}"


def _beside(score: Score) -> list[str]:
    return [] if score.teacher is None else [f"teacher {score.teacher:.2f}"]


def loop_line(title: str, loop: Loop) -> str:
    """`ted: evaluating, 1,200 of 9,000 rows, 0:40 left`."""
    parts = [loop.what, loop_amount(loop)]
    if loop.seconds_left is not None:
        parts.append(f"{clock(loop.seconds_left)} left")
    return f"{title + ': ' if title else ''}{', '.join(part for part in parts if part)}"


def loop_amount(loop: Loop) -> str:
    """`1,200 of 9,000 rows`, `1,200 rows`, or nothing for a loop whose items are not counted."""
    if not loop.unit:
        return ""
    return f"{loop.done:,}" + (f" of {loop.total:,}" if loop.total is not None else "") + f" {loop.unit}"


def end_line(stage: StageState, seconds: float, result: str) -> str:
    """`ted: done in 4:10, spearmanr 83.21`."""
    return f"{stage.title}: done in {clock(seconds)}" + (f", {result}" if result else "")
