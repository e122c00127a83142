"""The rows that a recipe is drafted from, read as the task would read them before it is known which task it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset, List

from ...errors import InputError
from ...tasks import TaskArguments, load_task
from ...tasks.reading.encodings import decoded, lines_of
from ...tasks.reading.file_options import FileOptions, columns_read, file_options
from ...tasks.reading.files import contents, extension, problems_of, read_file, reader
from ...tasks.reading.labelled_lines import LABELLED_LINES, are_labelled_lines
from ...tasks.reading.splits import read_splits
from ...tasks.reading.streams import stream_file
from ...tasks.reading.tagged_words import USUAL_WORDS
from ...tasks.reading.tags import is_entity_tag

_FIRST = 5000
"""Rows of a stream that are looked at."""
_MOST_TAGS = 100
"""Different tags, such as parts of speech, that words may have which are no entities."""


@dataclass(frozen=True)
class Source:
    """Training rows with all their columns.

    Attributes:
        count: rows; None for a stream.
        tagged: it is a file of words and tags, one a line.
        scored: there are rows to choose by: a file, or a split of the Hub.
        is_text: it is running text.
    """

    rows: Dataset
    count: int | None
    tagged: bool
    scored: bool
    is_text: bool = False


def read_source(arguments: TaskArguments) -> Source | None:
    """The rows that arguments name; None for a data set of the Hub that the task itself names and knows.

    Raises:
        InputError: no data are named, or they cannot be read.
    """
    if arguments.train_file:
        return _read_file(Path(arguments.train_file).expanduser(), arguments)
    if arguments.dataset_name:
        return _read_hub(arguments)
    if arguments.task and load_task(arguments).hub_dataset():
        return None
    raise InputError(
        "train_file: expected a file to train on, got none; give --train_file FILE (csv, tsv, json, jsonl, parquet, "
        "conll or txt), or --dataset_name NAME"
    )


def _read_file(path: Path, arguments: TaskArguments) -> Source:
    scored = bool(arguments.validation_file or arguments.validation_size)
    read = columns_read(arguments)
    options = file_options(arguments, read=read)
    if arguments.streaming:
        first = Dataset.from_list(list(islice(stream_file(path, "train_file", options), _FIRST)))
        return Source(first, None, False, scored, extension(path) == ".txt")
    if arguments.task == "token_classification" or extension(path) in (".conll", ".conllu"):
        words = arguments.text_column or USUAL_WORDS
        rows = read_file(path, "train_file", file_options(arguments, words=words, read=read))
        return Source(rows, len(rows), _is_tagged(path, rows), scored)
    if arguments.task is None and extension(path) == ".tsv" and _holds_words(path, options):
        rows = read_file(path, "train_file", file_options(arguments, words=USUAL_WORDS, read=read))
        return Source(rows, len(rows), True, scored)
    rows = read_file(path, "train_file", options)
    tagged = arguments.task is None and extension(path) == ".txt" and looks_tagged(rows[:_FIRST]["text"])
    if arguments.task is None and extension(path) == ".txt" and are_labelled_lines(rows[:_FIRST]["text"]):
        raise InputError(f"train_file: {LABELLED_LINES}, or give task=masked_lm or causal_lm for the lines as they are")
    if tagged:
        rows = read_file(path, "train_file", file_options(arguments, words=USUAL_WORDS, read=read))
    return Source(rows, len(rows), tagged, scored, extension(path) == ".txt" and not tagged)


def _is_tagged(path: Path, rows: Dataset) -> bool:
    """Whether rows that were read as words and tags are from lines of them; a tsv file may be a table instead."""
    lines_of_words = (".conll", ".conllu", ".txt")
    are_lists = all(isinstance(feature, List) for feature in rows.features.values())
    return extension(path) in lines_of_words or (extension(path) == ".tsv" and are_lists)


def _holds_words(path: Path, options: FileOptions) -> bool:
    """Whether a tsv file is words with tags. Raises `InputError` if it cannot be read."""
    reader(path, "train_file")
    with problems_of(path, "train_file"):
        text = decoded(contents(path), options.encoding).strip()
    return looks_tagged_table(lines_of(text)[:_FIRST])


def _read_hub(arguments: TaskArguments) -> Source:
    scored = bool(arguments.validation_size)
    options = file_options(arguments, read=columns_read(arguments))
    try:
        splits = read_splits(arguments, None, {} if scored else {"validation": "validation"}, options)
        scored = True
    except InputError as error:
        if "expected a split" not in str(error) or arguments.validation_split:
            raise
        splits, scored = read_splits(arguments, None, {}, options), False
    rows: Any = splits.get("train")
    if rows is None:
        raise InputError(f"dataset_name: expected a split 'train' in {arguments.dataset_name}, got none; give files")
    if isinstance(rows, IterableDataset):
        return Source(Dataset.from_list(list(rows.take(_FIRST))), None, False, scored)
    return Source(rows, len(rows) + (arguments.validation_size or 0), False, scored)


def looks_tagged_table(lines: Sequence[str]) -> bool:
    """Whether lines of a tsv file are words with tags, and no rows: a table has no blank lines between sentences."""
    sure = [line for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    return "" in map(str.strip, lines) and all("\t" in line for line in sure) and looks_tagged(lines)


def looks_tagged(lines: Sequence[str]) -> bool:
    """Whether lines of text are words with tags, one a line: of entities, or few others with blank lines between."""
    fields = [line.split() for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    tagged = [parts for parts in fields if len(parts) > 1 and is_entity_tag(parts[-1])]
    if len(tagged) > 0.9 * len(fields) > 0:
        return True
    width = max({*map(len, fields)}, key=[*map(len, fields)].count, default=0)
    last = [parts[-1] for parts in fields if len(parts) == width]
    few = len({*last}) <= min(_MOST_TAGS, len(last) / 10) and not any(map(str.islower, last))
    return 2 <= width <= 4 and len(last) > 0.95 * len(fields) and few and "" in map(str.strip, lines)
