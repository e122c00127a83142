"""Doubts about data: classes that are rare or missing, rows that contradict each other, rows that are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from ...models.labels import class_names, has_default_labels, label_order, model_labels
from ...models.load import LoadedModel
from ...stages.rows.lost_text import MANY_CUT, cut_share
from ...tasks import QuestionAnswering, Task
from ...tasks.reading.overlap import row_texts
from ...wording import listed

_FEW = 10
"""Rows of a class from which little can be learnt."""
_NAMED = 6
"""Classes that a doubt names."""
_COMPARED = 1_000_000
"""Rows among which contradictions are looked for."""


def class_counts(task: Task, rows: Dataset) -> dict[str, int] | None:
    """Items of each class: rows, or words of a task that labels words; None for a task without classes."""
    names = class_names(task)
    if names is None:
        return None
    if "tags" in rows.column_names:
        items = np.array([tag for row in rows["tags"] for tag in row], dtype=int)
        counts = np.bincount(items, minlength=len(names))
    elif "label" not in rows.column_names:
        return None
    else:
        labels = np.asarray(rows["label"][:])
        counts = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels, minlength=len(names))
    return dict(zip(names, counts.astype(int).tolist(), strict=True))


def label_doubts(task: Task) -> Iterator[str]:
    """Classes with few training rows, or none to score on."""
    train = task.rows["train"]
    if isinstance(train, IterableDataset):
        return
    counts = class_counts(task, train)
    if counts is None:
        return
    what = "words" if "tags" in train.column_names else "rows"
    if rare := {name: count for name, count in counts.items() if count < _FEW}:
        yield (
            f"train: expected at least {_FEW} {what} of each class, got {_counts(rare)}; add {what} of "
            f"{'it' if len(rare) == 1 else 'them'}, or leave {'it' if len(rare) == 1 else 'them'} out"
        )
    of_validation = class_counts(task, task.rows["validation"]) if "validation" in task.rows else None
    missing = [name for name, count in (of_validation or {}).items() if not count and counts[name]]
    if missing:
        more = "raise" if task.arguments.validation_size else "hold out training rows with"
        yield (
            f"validation: expected {what} of every class, got none of {listed(missing, _NAMED)}; the scores say "
            f"nothing about them: add some, or {more} validation_size"
        )


def _counts(counts: dict[str, int]) -> str:
    named = [f"{count} of {name}" for name, count in sorted(counts.items(), key=lambda pair: pair[1])]
    more = [f"few of {len(named) - _NAMED} more"] if len(named) > _NAMED else []
    return ", ".join(named[:_NAMED] + more)


def contradictions(task: Task) -> Iterator[str]:
    """Training rows with one text and several labels."""
    rows = task.rows["train"]
    if isinstance(rows, IterableDataset) or class_names(task) is None or len(rows) > _COMPARED:
        return
    column = "tags" if "tags" in rows.column_names else "label"
    columns = task.text_columns(rows)
    if not columns or column not in rows.column_names:
        return
    table = pa.table({"text": row_texts(rows, columns), "label": [str(label) for label in rows[column]]})
    found = table.group_by("text").aggregate([("label", "count_distinct"), ("label", "count")])
    several = np.asarray(found["label_count_distinct"]) > 1
    if number := int(np.asarray(found["label_count"])[several].sum()):
        yield (
            f"train: expected one label for one text, got several for {int(several.sum())} texts in {number} of "
            f"{len(rows)} rows; correct them or leave them out"
        )


def cut_rows(task: Task, features: Dataset, looked_at: int, longest: int) -> tuple[str | None, list[str]]:
    """How many rows are cut at the greatest length, and the doubt if there are many.

    Args:
        features: of the sampled training rows.
        looked_at: how many of the first are like all others.
        longest: the greatest length in tokens.
    """
    if task.running_text or isinstance(task, QuestionAnswering):
        return None, []  # blocks and windows lose nothing
    share = cut_share(features.select(range(looked_at)), longest)
    text = f"{100 * share:.1f} % of the training rows fill max_seq_length ({longest} tokens) or are cut there"
    if share < MANY_CUT:
        return text, []
    return text, [
        f"max_seq_length: expected nearly all rows to fit into {longest} tokens, got {100 * share:.0f} % that fill "
        "them or are cut; raise it if the model can read more, or check that the beginning of a text is enough"
    ]


def label_line(task: Task, teacher: LoadedModel, tuned: bool) -> str | None:
    """The labels by name, and how the teacher has them."""
    names = class_names(task)
    if names is None:
        return None
    text = listed(names, _NAMED)
    config: Any = teacher.model.config
    if tuned and any("classifier" in name or "score" in name or "head" in name for name in teacher.fresh):
        return f"{text} (new to the teacher, which is fine-tuned on them first)"
    if has_default_labels(config):
        return f"{text} (without names in the teacher's config; taken in this order)"
    if label_order(config, task, teacher.name) is None:
        return f"{text} (as in the teacher)"
    return f"{text} (in the teacher {listed(model_labels(config), _NAMED)}; matched by name)"
