"""Where rows come from: the files that were named, or else a data set of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import datasets
from datasets import Dataset, IterableDataset

from ...errors import InputError, collect, raise_if_any
from ..task_arguments import TaskArguments
from .files import read_file, stream_file

SAMPLE_SEED = 42
Rows: TypeAlias = Dataset | IterableDataset


def read_splits(
    arguments: TaskArguments, hub_dataset: tuple[str, str | None] | None, validation_splits: dict[str, str]
) -> dict[str, Rows]:
    """The splits that are given, `train` first, as they come: nothing is renamed and nothing left out.

    Files are read without touching the network. Only where none is named is the Hub asked, for
    `arguments.dataset_name` or else `hub_dataset`.

    Args:
        hub_dataset: (name, configuration) of the task's own data set, if it has one.
        validation_splits: our name -> the Hub's, for every split to score on.

    Raises:
        InputError: with every problem of every file, or why the Hub gave nothing, or that no data are named.
    """
    files = {
        "train": ("--train_file", arguments.train_file),
        "validation": ("--validation_file", arguments.validation_file),
        "validation_mismatched": ("--validation_mismatched_file", arguments.validation_mismatched_file),
    }
    named = {split: (flag, Path(file).expanduser()) for split, (flag, file) in files.items() if file}
    raise_if_any(_argument_problems(arguments, set(named), validation_splits))
    if arguments.validation_split:
        validation_splits = {**validation_splits, "validation": arguments.validation_split}
    if arguments.validation_size:
        validation_splits = {name: split for name, split in validation_splits.items() if name != "validation"}
    if named:
        splits = _read_files(named, arguments.streaming)
    elif arguments.dataset_name:
        splits = _read_hub(arguments.dataset_name, arguments.dataset_config_name, validation_splits, arguments)
    elif hub_dataset:
        name, config = hub_dataset
        splits = _read_hub(name, arguments.dataset_config_name or config, validation_splits, arguments)
    else:
        raise _nothing_named()
    return _held_out(splits, arguments.validation_size) if arguments.validation_size else splits


def _nothing_named() -> InputError:
    return InputError(
        "no data are named; give --train_file and --validation_file (csv, tsv, json, jsonl or parquet), "
        "or --dataset_name for a data set of the Hub"
    )


def _held_out(splits: dict[str, Rows], size: int) -> dict[str, Rows]:
    """`size` rows taken off the training rows to score on: a stream's first, or else a random sample."""
    train = splits["train"]
    if isinstance(train, IterableDataset):
        return {"train": train.skip(size), "validation": Dataset.from_list(list(train.take(size)))}
    if size >= len(train):
        raise InputError(f"validation_size: less than the {len(train)} training rows was expected, {size} came")
    halves = train.train_test_split(test_size=size, seed=SAMPLE_SEED)
    return {"train": halves["train"], "validation": halves["test"]}


def sample_rows(rows: Rows, maximum: int | None) -> Rows:
    """A random sample of at most `maximum` rows (None: all), always the same one; of a stream the first."""
    if isinstance(rows, IterableDataset):
        return rows if maximum is None else rows.take(maximum)
    if maximum is None or maximum >= len(rows):
        return rows
    return rows.shuffle(seed=SAMPLE_SEED).select(range(maximum))


def _argument_problems(arguments: TaskArguments, named: set[str], validation_splits: dict[str, str]) -> Iterator[str]:
    if named and arguments.dataset_name:
        yield "both files and --dataset_name are given; give one or the other"
    for split in sorted(named - {"train", *validation_splits}):
        yield f"--{split}_file is given, but this task has no such split; leave it out"
    for flag in ("max_train_samples", "max_eval_samples"):
        maximum = getattr(arguments, flag)
        if maximum is not None and maximum < 1:
            yield f"--{flag} is {maximum}; 1 or more was expected, or leave it out for all rows"
    if arguments.validation_size is not None:
        if arguments.validation_size < 1:
            yield f"--validation_size is {arguments.validation_size}; 1 or more was expected"
        if "validation" in named:
            yield "both --validation_file and --validation_size are given; give one or the other"
        if named and "train" not in named:
            yield "--validation_size takes rows off --train_file, which is not given"


def _read_files(named: dict[str, tuple[str, Path]], streaming: bool) -> dict[str, Rows]:
    splits: dict[str, Rows] = {}
    problems: list[str] = []
    for split, (flag, path) in named.items():
        with collect(problems):
            splits[split] = stream_file(path, flag) if streaming and split == "train" else read_file(path, flag)
    raise_if_any(problems)
    return splits


def _read_hub(
    name: str, config: str | None, validation_splits: dict[str, str], arguments: TaskArguments
) -> dict[str, Rows]:
    title = f"data set {name}" + (f" ({config})" if config else "")
    options: dict[str, Any] = {"revision": arguments.dataset_revision, "streaming": arguments.streaming or None}
    options = {option: value for option, value in options.items() if value is not None}
    try:
        found = datasets.load_dataset(name, config, **options)
    # What can go wrong on the way has no common base: network, authorisation, a wrong name, a wrong configuration.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(
            f"{title}: the Hub did not give it ({reason}); check the name and the connection, "
            "or give --train_file and --validation_file"
        ) from error
    wanted = {"train": "train", **validation_splits}
    missing = [theirs for theirs in validation_splits.values() if theirs not in found]
    if missing:
        raise InputError(
            f"{title}: split {missing[0]!r} was expected, there are {', '.join(found)}; "
            "give the rows to score on as --validation_file, and --train_file"
        )
    splits = {ours: found[theirs] for ours, theirs in wanted.items() if theirs in found}
    # What is scored on is read whole: it is small, and scored on in every epoch.
    return {
        split: Dataset.from_list(list(rows)) if isinstance(rows, IterableDataset) and split != "train" else rows
        for split, rows in splits.items()
    }
