"""Data sets of the Hugging Face Hub, or of a folder with data files, -> rows by split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets
from datasets.info import DatasetInfosDict
from huggingface_hub import HfFileSystem

from ...errors import InputError, reason_of
from ...identity import data_commit, file_fingerprint, is_commit
from ..task_arguments import TaskArguments
from .arrow_types import plain_dataset
from .file_options import FileOptions
from .files import extension, read_file
from .hub_tables import as_written, typed_columns

_TABLES = (".csv", ".tsv")
_SHOWN = 300


def read_data_set(
    name: str,
    config: str | None,
    validation_splits: dict[str, str],
    arguments: TaskArguments,
    how: FileOptions,
) -> dict[str, Dataset | IterableDataset]:
    """The splits of a data set, `train` first.

    Args:
        name: of the Hub, or a folder: of data files, or one that `datasets` saved.
        config: the data set's configuration, if it has several.
        validation_splits: our name -> the data set's, for every split to score on.
        how: csv and tsv files are read.

    Raises:
        InputError: there is no such data set, it cannot be read, or it lacks a split.
    """
    title = f"data set {name}" + (f" ({config})" if config else "")
    folder = Path(name).expanduser()
    if folder.is_file():
        raise InputError(f"dataset_name: expected a data set of the Hub or a folder, got file {name}; use train_file")
    found = _found(name, config, folder if folder.is_dir() else None, arguments, how, title)
    wanted = {"train": "train", **validation_splits}
    missing = [theirs for theirs in validation_splits.values() if theirs not in found]
    if missing:
        raise InputError(
            f"{title}: expected a split {missing[0]!r}, got {', '.join(found)}; name another one with "
            "--validation_split or --test_split, or set --train_file and --validation_file"
        )
    splits = {ours: found[theirs] for ours, theirs in wanted.items() if theirs in found}
    with _said_of(title, folder.is_dir()):
        # Rows to score on are read whole: they are few, and needed in every epoch.
        whole = {
            split: Dataset.from_list(list(rows)) if isinstance(rows, IterableDataset) and split != "train" else rows
            for split, rows in splits.items()
        }
    return {split: plain_dataset(rows) if isinstance(rows, Dataset) else rows for split, rows in whole.items()}


def files_of_split(name: str, config: str | None, arguments: TaskArguments, split: str = "train") -> list[str]:
    """Fingerprints of the files that a split of a data set is read from, in order; none if it has no files."""
    folder = Path(name).expanduser()
    place = str(folder) if folder.is_dir() else name
    revision = arguments.dataset_revision
    if not folder.is_dir():
        revision = data_commit(name, revision) or revision
    with _said_of(f"data set {name}", folder.is_dir()):
        builder = datasets.load_dataset_builder(place, config, revision=revision)
        return [_file_content(str(file)) for file in (builder.config.data_files or {}).get(split, [])]


def _file_content(file: str) -> str:
    """The fingerprint of a file here; the Hub's own of one that is there; of any other, where it is."""
    if file.startswith("hf://"):
        found = HfFileSystem().info(file)
        return str(found["lfs"]["sha256"] if found.get("lfs") else found["blob_id"])
    return file_fingerprint(file) if Path(file).is_file() else file


def _found(
    name: str, config: str | None, folder: Path | None, arguments: TaskArguments, how: FileOptions, title: str
) -> dict[str, Any]:
    """Splits by the names that the data set gives them."""
    commit = None if folder is not None else data_commit(name, arguments.dataset_revision)
    at = {} if folder is not None else {"revision": commit or arguments.dataset_revision}
    options: dict[str, Any] = {**at, "streaming": arguments.streaming or None}
    options = {option: value for option, value in options.items() if value is not None}
    named = {"sep": how.delimiter, "encoding": how.encoding}
    named = {option: value for option, value in named.items() if value is not None}
    with _said_of(title, folder is not None):
        if folder is not None and not arguments.streaming and (splits := _of_folder(folder, config, how)):
            return splits
        if named and not hasattr(datasets.load_dataset_builder(name, config, **at).config, "sep"):
            named = {}  # they are for another file, such as unlabelled texts
        options |= named
        found = datasets.load_dataset(name, config, **options)
        _check_commit(found, commit or arguments.dataset_revision, title)
        by_pandas = {split: rows.features for split, rows in found.items()}
        again = as_written(found, lambda: datasets.load_dataset_builder(name, config, **named, **at))
        if again:
            found = datasets.load_dataset(name, config, **options, **again)
    if not again:
        return dict(found)
    return {split: typed_columns(rows, by_pandas[split], how, title) for split, rows in found.items()}


def _check_commit(found: Mapping[str, Any], revision: str | None, title: str) -> None:
    """Refuse rows of another commit: where the Hub does not answer, `datasets` takes what it read last.

    Raises:
        InputError: they are of another one.
    """
    files = [str(file["filename"]) for rows in found.values() for file in getattr(rows, "cache_files", [])]
    if is_commit(revision) and any(str(revision) not in file for file in files):
        raise InputError(
            f"expected the rows of commit {revision}, got no answer of the Hub and other ones in the cache; try again "
            "when the Hub answers"
        )


@contextmanager
def _said_of(title: str, is_folder: bool) -> Iterator[None]:
    """Whatever goes wrong inside becomes an `InputError` about this data set."""
    try:
        yield
    except InputError as error:
        raise InputError([f"{title}: {problem}" for problem in error.problems]) from error
    # The errors have no common base: network, authorisation, a wrong name, a wrong configuration.
    except Exception as error:
        # `datasets` says that something went wrong, and its cause says what; but of a name, a revision or a
        # configuration that is not there, it says that itself.
        clear = isinstance(error, (datasets.exceptions.DatasetNotFoundError, ValueError))
        reason = reason_of(error if clear else error.__cause__ or error, _SHOWN, whole=clear)
        expected = "a folder of data files" if is_folder else "it from the Hub"
        remedy = "fix or remove the file" if is_folder else "check the name and the connection"
        raise InputError(
            f"{title}: expected {expected}, got an error ({reason}); {remedy}, or set --train_file and "
            "--validation_file"
        ) from error


def _of_folder(folder: Path, config: str | None, how: FileOptions) -> dict[str, Dataset]:
    """The splits of a folder that `datasets` saved, or of csv and tsv files, read as files that are named are; none of
    other folders, which `datasets` reads.
    """
    if (folder / "state.json").is_file():
        return {"train": Dataset.load_from_disk(str(folder))}
    if (folder / "dataset_dict.json").is_file():
        return dict(DatasetDict.load_from_disk(str(folder)))
    if any(info.features for info in DatasetInfosDict.from_directory(str(folder)).values()):
        return {}  # it declares what its columns hold
    files = datasets.load_dataset_builder(str(folder), config).config.data_files or {}
    parts = {str(split): [Path(part) for part in paths] for split, paths in files.items()}
    if not all(part.is_file() and extension(part) in _TABLES for of_split in parts.values() for part in of_split):
        return {}
    return {split: _joined(of_split, how) for split, of_split in parts.items()}


def _joined(parts: list[Path], how: FileOptions) -> Dataset:
    """The rows of csv and tsv files with the same columns. What a column holds is known once all of them are read."""
    if len(parts) == 1:
        return read_file(parts[0], "file", how)
    read = [read_file(part, "file", how._replace(typed=False)) for part in parts]
    for part, rows in zip(parts, read, strict=True):
        if {*rows.column_names} != {*read[0].column_names}:
            raise InputError(
                f"file {part}: expected the columns of {parts[0].name} ({', '.join(read[0].column_names)}), got "
                f"{', '.join(rows.column_names)}; give all files of a split the same columns"
            )
    return typed_columns(concatenate_datasets(read), {}, how, "files")
