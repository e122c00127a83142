"""Whether rows to score on are among those that weights depend on: what a model has seen says little about what it can
do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from .notices import notice

_ROWS = 100_000
_BETWEEN = "\x1f"
_LONG = 40
"""Characters from which a line of running text is more than a heading, which many texts share."""
_NOT_TRAINED_ON = "are not trained on", "scores on them say little about new text"
_NOT_CHOSEN_BY = "no weights are chosen by", "scores on them are too good"
"""What is expected of rows to score on, and what follows if it is not so."""


def warn_of_overlap(
    splits: dict[str, Dataset],
    columns: Sequence[str],
    lines: bool = False,
    unlabelled: Dataset | None = None,
    about: object = None,
) -> None:
    """Say how many rows of each split to score on have the texts of a training row, whatever their labels, and how many
    test rows those of a validation row.

    Args:
        splits: normalised rows.
        columns: those that a model reads: text, or lists of words.
        lines: rows are running text, of which only long ones count.
        unlabelled: training rows without labels, if there are any.
        about: where the splits are from.
    """
    for warning in overlaps(splits, columns, lines, unlabelled):
        notice(warning, about)


def overlaps(
    splits: dict[str, Dataset], columns: Sequence[str], lines: bool = False, unlabelled: Dataset | None = None
) -> Iterator[str]:
    """A warning for each split to score on with texts of rows that weights depend on; see `warn_of_overlap`."""
    for name, rows in splits.items():
        if name != "train":
            known = {split: of_split for split, of_split in splits.items() if split != name}
            # Only test rows should have no part in the choice of weights.
            chosen_by = known if name == "test" else {split: known[split] for split in known if split != "validation"}
            yield from overlaps_with(name, rows, chosen_by, columns, lines, unlabelled)


def overlaps_with(
    name: str,
    rows: Dataset,
    known: Mapping[str, Dataset],
    columns: Sequence[str],
    lines: bool = False,
    unlabelled: Dataset | None = None,
) -> Iterator[str]:
    """A warning for rows to score on with texts of rows that weights depend on.

    Args:
        name: what the warnings call the rows.
        known: splits by name; `train` and `validation` are compared with.
        columns: see `warn_of_overlap`, as are the others.
    """
    places = {
        "the training rows": (known.get("train"), _NOT_TRAINED_ON),
        "the training rows without labels": (unlabelled, _NOT_TRAINED_ON),
        "the validation rows": (known.get("validation"), _NOT_CHOSEN_BY),
    }
    there = {where: (those, words) for where, (those, words) in places.items() if those is not None}
    if not columns or not there:
        return
    texts = row_texts(rows, columns)
    if lines:
        texts = texts.filter(pc.greater_equal(pc.utf8_length(texts), _LONG))
    for where, (those, (expected, so)) in there.items():
        if seen := _seen(texts, those, columns):
            yield (
                f"{name}: expected rows that {expected}, got {seen} of {len(texts)} "
                f"({100 * seen / len(texts):.1f} %) whose text is in {where}; {so}"
            )


def _seen(texts: pa.Array, those: Dataset, columns: Sequence[str]) -> int:
    """How many of the texts are in those rows, of which only some are in memory at once."""
    found = np.zeros(len(texts), dtype=bool)
    for start in range(0, len(those), _ROWS):
        some = those.select(range(start, min(start + _ROWS, len(those))))
        found |= pc.is_in(texts, value_set=row_texts(some, columns)).to_numpy(zero_copy_only=False)
    return int(found.sum())


def row_texts(rows: Dataset, columns: Sequence[str]) -> pa.Array:
    """What a model reads of each row, as one text."""
    table = rows.select_columns(list(columns)).with_format("arrow")[:]
    # Joined with offsets of 64 bits: the texts of these rows may be longer than 2 GiB together.
    parts = [pa.chunked_array(map(_joined, table.column(name).chunks), pa.large_string()) for name in columns]
    parts = [part.combine_chunks() for part in parts]
    joined = pc.binary_join_element_wise(
        *parts, pa.scalar(_BETWEEN, pa.large_string()), null_handling="replace", null_replacement=""
    )
    return pc.utf8_trim_whitespace(joined)


def _joined(column: pa.Array) -> pa.Array:
    text = pc.binary_join(column, " ") if pa.types.is_list(column.type) else column
    return text.cast(pa.large_string())
