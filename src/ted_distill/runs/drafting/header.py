"""The first lines of a drafted recipe: what it makes of what, how large and how fast that is, and how it is run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ...models.embeddings import embedding_parameters
from ...output import short_name
from ...wording import counted, duration, listed, noun, parameters
from ..planning import Plan, PlannedModel, Unknown
from .decisions import Drafting

_FEW_ROWS = 50


def header_of(drafting: Drafting, planned: Plan, file: str) -> list[str]:
    """The lines, without comment signs.

    Args:
        file: the recipe's, as a command names it.
    """
    file = shlex.quote(file)
    return [
        f"{drafting.task.name}: {short_name(str(drafting.given.run.teacher))} -> {_change(planned)}",
        "",
        *sizes(drafting, planned),
        "",
        f"  ted check {file}      # whether models and data are right, and how long it will take",
        f"  ted run {file}        # all of it; the same command resumes an interrupted one",
        f"  ted compare {file}    # each method with several seeds: which one is better, and how sure that is",
        "",
        "Written by `ted init`, for this teacher and these data; every value may be changed, here or for one run as",
        "key=value, --key value or section.key=value.",
    ]


def _change(planned: Plan) -> str:
    student = planned.models["student"]
    if isinstance(student, PlannedModel) and student.kept_blocks:
        config = student.config
        return f"{counted(len(student.kept_blocks), 'block')} x {config.hidden_size}"
    return short_name(planned.recipe.run.student or "a student")


def sizes(drafting: Drafting, planned: Plan) -> Iterator[str]:
    """A line for the teacher's and one for the student's parameters and, if it was measured, their time for a row."""
    latency = drafting.latency
    teacher, student = planned.models["teacher"], planned.models["student"]
    for owner, model in (("teacher", teacher), ("student", student)):
        if isinstance(model, Unknown) or isinstance(model.parameters, Unknown):
            continue
        said = f"{owner}  {parameters(model.parameters)} parameters"
        if owner == "student" and isinstance(teacher, PlannedModel) and isinstance(teacher.parameters, int):
            said += f", {100 * model.parameters / teacher.parameters:.0f} % of the teacher's"
            embeddings = 0 if isinstance(model.model, Unknown) else embedding_parameters(model.model)
            # Fewer blocks leave these as they are: without a word on it half the blocks look like a poor bargain.
            said += f" ({parameters(embeddings)} are embeddings)" if 2 * embeddings > model.parameters else ""
        if latency is not None:
            seconds = latency.teacher if owner == "teacher" else latency.student
            said += f"; {duration(seconds)} for a row of {latency.tokens} tokens"
            said += f" ({100 * latency.share:.0f} %; {latency.device})" if owner == "student" else ""
        yield said


def notes_of(drafting: Drafting, planned: Plan) -> list[str]:
    """What was decided, in a few lines for the screen."""
    guess, fit = drafting.guess, drafting.fit
    found = ", ".join(f"{key} {name}" for key, name in guess.found.columns.items())
    notes = [
        f"task: {guess.task} ({guess.why})" + (f"; {found}" if found else ""),
        f"teacher: {'used as it is' if fit.tuned else 'fine-tuned first'}: {fit.why}",
        *sizes(drafting, planned),
        f"max_seq_length: {drafting.max_seq_length}",
    ]
    if drafting.held_out is not None:
        held = drafting.held_out
        notes.append(f"validation_size: {counted(held, 'row')} held out of the training rows")
    if drafting.unread:
        notes.append(f"not read: {noun(len(drafting.unread), 'column')} {listed(drafting.unread, 8)}")
    count = drafting.source.count if drafting.source else None
    if count is not None and count < _FEW_ROWS:
        notes.append(f"doubtful: {count} rows are too few to learn from, or to tell a better model from a worse one by")
    return notes
