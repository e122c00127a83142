"""The keys of a drafted recipe that say what the task is, and which rows it reads."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...tasks import TaskArguments
from ..parsing import field_names
from .decisions import Drafting
from .document import GIVEN, Line
from .lengths import LOOKED_AT, MOST, SHARE

_DATA = ("dataset_name", "dataset_config_name", "dataset_revision", "train_file")
_WHY = {
    **dict.fromkeys(
        ("validation_file", "validation_mismatched_file", "validation_split"),
        "Rows to choose the best checkpoint by.",
    ),
    **dict.fromkeys(
        ("test_file", "test_split"), "Finished models are scored on these rows once; no choice depends on them."
    ),
}


def task_lines(drafting: Drafting) -> Iterator[Line]:
    """Task, files, columns, rows held out, lengths, and whatever else was given."""
    given, guess = drafting.given.top, drafting.guess
    lines = [Line("task", guess.task, GIVEN if "task" in given else f"Guessed: {guess.why}.")]
    lines += [
        Line(key, given[key], _summary(drafting) if key == "train_file" else GIVEN) for key in _DATA if key in given
    ]
    lines += [Line(key, given[key], why) for key, why in _WHY.items() if key in given]
    lines += [Line(key, name, _sentence(guess.found.why.get(key))) for key, name in guess.found.columns.items()]
    if drafting.held_out is not None:
        lines.append(Line("validation_size", drafting.held_out, _held_out(drafting, drafting.held_out)))
    lines.append(Line("max_seq_length", drafting.max_seq_length, _length(drafting)))
    if drafting.doc_stride is not None:
        why = "Tokens that two windows share: the default of 128 leaves a window of this length too little room."
        lines.append(Line("doc_stride", drafting.doc_stride, why))
    yield from lines
    said = {line.key for line in lines}
    yield from (Line(key, given[key], GIVEN) for key in given if key in field_names(TaskArguments) - said)


def _sentence(why: str | None) -> str:
    return f"{why[:1].upper()}{why[1:]}." if why else ""


def _summary(drafting: Drafting) -> str:
    """What was read of the file."""
    train = drafting.task.rows["train"]
    summary = drafting.task.describe_labels(train) if drafting.lengths else None
    return f"Read as: {summary}." if summary else "Rows to train on."


def _held_out(drafting: Drafting, size: int) -> str:
    source, task = drafting.source, drafting.task
    if source is None or source.count is None:
        return "Rows of the stream, its first ones, to choose the best checkpoint by; they are not trained on."
    by_class = ""
    if task.classes_of(source.rows) is not None:
        one_a_row = task.problem_type == "single_label_classification"
        by_class = ", of each class its share," if one_a_row else ", of no label all,"
    verb = "is" if size == 1 else "are"
    said = [
        f"There is one file: {size} of its {source.count} rows ({100 * size / source.count:.0f} %){by_class} {verb} "
        "held out to choose the best checkpoint by, and not trained on."
    ]
    if drafting.lengths:
        said.append(f"An accuracy of 90 % on these is uncertain by {100 * math.sqrt(0.9 * 0.1 / size):.1f} points.")
    if drafting.cuts_windows:
        said.append("Questions on one passage may be on both sides: a validation_file of other passages is fairer.")
    return " ".join(said)


def _length(drafting: Drafting) -> str:
    if "max_seq_length" in drafting.given.top:
        return f"Tokens of a row. {GIVEN}"
    limit, lengths = drafting.limit, drafting.lengths
    model = f"the teacher can read {limit}" if limit else "the teacher has no limit"
    if lengths is None:
        return f"Tokens of a block: rows are joined and cut into blocks of this length; {model}."
    length, seen = drafting.max_seq_length, len(lengths.tokens)
    half = f"half have at most {lengths.typical}, the longest has {lengths.tokens.max()}"
    rows = f"{seen} rows" if seen < LOOKED_AT else f"{seen} rows that were looked at"
    is_most = length >= min(limit or MOST, MOST) or drafting.cuts_windows
    if not (cut := lengths.share_cut(length)):
        return f"Tokens of a row: all of the {rows} fit, {half}."
    said = f"{half}, and {model}" if is_most else f"{SHARE} % of the {rows} fit, {half}"
    done = "read in several windows" if drafting.cuts_windows else "cut"
    said = f"Tokens of a row: {said}; {100 * cut:.1f} % are longer and {done}."
    shorter = lengths.holding(95)
    # A step takes as long as its longest rows.
    return f"{said} {shorter} would take less time, and holds 95 %." if 2 * shorter <= length else said
