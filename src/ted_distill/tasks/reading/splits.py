"""Where rows come from: the files that arguments name, or else a data set of the Hugging Face Hub."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from datasets import Dataset, IterableDataset

from ...errors import InputError, collect, raise_if_any
from ...wording import listed
from ..task_arguments import TaskArguments
from .data_sets import read_data_set
from .file_options import FileOptions, file_options, option_problems
from .files import read_file
from .held_out import SAMPLE_SEED, held_out
from .streams import stream_file

Rows: TypeAlias = Dataset | IterableDataset


class Splits(dict[str, Rows]):
    """Rows by split, and which of a file they are where they are not all of it."""

    rows_of_file: Mapping[str, Sequence[int]] = {}
    """Split -> the number in the file of each of its rows, counted from 0."""


def read_splits(
    arguments: TaskArguments,
    hub_dataset: tuple[str, str | None] | None,
    validation_splits: dict[str, str],
    options: FileOptions | None = None,
    given: Mapping[str, Rows] | None = None,
    classes_of: Callable[[Dataset], Sequence[Hashable] | None] = lambda rows: None,
    keeps_order: Callable[[Dataset], bool] = lambda rows: False,
) -> Splits:
    """The splits that were given, `train` first, with all their columns unchanged.

    Files are read without the network. Only if no file is named is the Hub asked, for `arguments.dataset_name` or else
    `hub_dataset`.

    Args:
        hub_dataset: (name, configuration) of the task's own data set, if it has one.
        validation_splits: our name -> the Hub's, for every split to score on.
        options: how files are read [as the arguments say].
        given: rows that are there already, by split; then neither files nor the Hub are asked.
        classes_of: the classes of rows, by which `validation_size` is stratified [none].
        keeps_order: whether rows are lines of one text, of which `validation_size` takes the last ones [no].

    Raises:
        InputError: with every problem of every file; the Hub gave nothing; or no data were named.
    """
    files = {
        "train": ("train_file", arguments.train_file),
        "validation": ("validation_file", arguments.validation_file),
        "validation_mismatched": ("validation_mismatched_file", arguments.validation_mismatched_file),
        "test": ("test_file", arguments.test_file),
    }
    named = {split: (flag, Path(file).expanduser()) for split, (flag, file) in files.items() if file}
    if given:
        raise_if_any(
            f"{flag}: expected rows or files, got rows of {', '.join(given)} and a file; leave out one or the other"
            for flag, _ in named.values()
        )
    raise_if_any(_argument_problems(arguments, {*named, *(given or {})}, validation_splits))
    validation_splits = _scored_splits(arguments, validation_splits)
    options = options or file_options(arguments)
    if given:
        splits = {split: given[split] for split in files if split in given}
    elif named:
        splits = _read_files(named, arguments.streaming, options)
    elif arguments.dataset_name:
        splits = read_data_set(
            arguments.dataset_name, arguments.dataset_config_name, validation_splits, arguments, options
        )
    elif hub_dataset:
        name, config = hub_dataset
        splits = read_data_set(name, arguments.dataset_config_name or config, validation_splits, arguments, options)
    else:
        raise _nothing_named()
    size = arguments.validation_size
    return _held_out(splits, size, classes_of, keeps_order) if size else Splits(splits)


def _scored_splits(arguments: TaskArguments, of_task: dict[str, str]) -> dict[str, str]:
    """Our name -> the Hub's, for every split to score on: the task's, changed as the arguments say."""
    found = dict(of_task)
    if arguments.validation_split:
        found["validation"] = arguments.validation_split
    if arguments.test_split:
        found["test"] = arguments.test_split
    if arguments.validation_size:
        found.pop("validation", None)
    return found


def _nothing_named() -> InputError:
    return InputError(
        "data: expected files or a data set of the Hub, got neither; set --train_file and --validation_file (csv, tsv, "
        "json, jsonl, parquet, conll or txt), or --dataset_name"
    )


def _held_out(
    splits: dict[str, Rows],
    size: int,
    classes_of: Callable[[Dataset], Sequence[Hashable] | None],
    keeps_order: Callable[[Dataset], bool],
) -> Splits:
    """`size` training rows held out to score on: the first of a stream, or else see `held_out`."""
    if "train" not in splits:
        raise InputError(
            f"validation_size: expected training rows to hold rows out of, got {listed(splits)} alone; leave it out, "
            "or name a data set with a split `train`"
        )
    train = splits["train"]
    if isinstance(train, IterableDataset):
        found = Splits({**splits, "train": train.skip(size), "validation": Dataset.from_list(list(train.take(size)))})
        found.rows_of_file = {"train": range(size, sys.maxsize)}
        return found
    if size >= len(train):
        raise InputError(f"validation_size: expected less than the {len(train)} training rows, got {size}; lower it")
    stay, out = held_out(len(train), size, classes_of(train), keeps_order(train))
    found = Splits({**splits, "train": train.select(stay), "validation": train.select(out)})
    found.rows_of_file = {"train": stay, "validation": out}
    return found


def sample_rows(rows: Rows, maximum: int | None, keeps_order: bool = False) -> Rows:
    """A random sample of at most `maximum` rows [all], always the same one; the first of a stream or of one text."""
    if isinstance(rows, IterableDataset):
        return rows if maximum is None else rows.take(maximum)
    if maximum is None or maximum >= len(rows):
        return rows
    if keeps_order:
        return rows.select(range(maximum))
    return rows.shuffle(seed=SAMPLE_SEED).select(range(maximum))


def _argument_problems(arguments: TaskArguments, named: set[str], validation_splits: dict[str, str]) -> Iterator[str]:
    if named and arguments.dataset_name:
        yield "dataset_name: expected files or a data set of the Hub, got both; leave out one or the other"
    if arguments.test_split and named:
        yield "test_split: expected a data set of the Hub, got files; name a file with --test_file"
    if arguments.validation_split and named:
        yield "validation_split: expected a data set of the Hub, got files; name a file with --validation_file"
    elif arguments.validation_split and arguments.validation_size:
        yield "validation_split: expected this or a validation_size, got both; leave out one or the other"
    for split in sorted(named - {"train", "test", *validation_splits}):
        yield f"{split}_file: expected none, as this task has no such split, got a file; leave it out"
    yield from option_problems(arguments)
    if arguments.validation_size is not None:
        if "validation" in named:
            yield "validation_size: expected this or a validation_file, got both; leave out one or the other"
        if named and "train" not in named:
            yield "validation_size: expected a train_file to hold rows out of, got none; set --train_file"


def _read_files(named: dict[str, tuple[str, Path]], streaming: bool, options: FileOptions) -> dict[str, Rows]:
    splits: dict[str, Rows] = {}
    problems: list[str] = []
    for split, (flag, path) in named.items():
        with collect(problems):
            read = stream_file if streaming and split == "train" else read_file
            splits[split] = read(path, flag, options)
    raise_if_any(problems)
    return splits
