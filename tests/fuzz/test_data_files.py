"""Data files of every kind: what is fine is read exactly, nonsense is refused in one line, and nothing else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from fuzz.data_files import KINDS, REFUSED, DataFile, files
from fuzz.searching import refusal, search
from ted_distill.tasks import Task, TaskArguments, load_task


@pytest.fixture
def check(tmp_path: Path, own_cache: Path) -> Iterator[Callable[[DataFile], None]]:
    """Reads a file and compares what comes of it with what must."""
    datasets.disable_progress_bars()

    def check(file: DataFile) -> None:
        path = tmp_path / file.name
        path.write_bytes(file.content)
        task = load_task(TaskArguments(file.task, train_file=str(path), **file.arguments))
        said = refusal(lambda: task.rows)
        if file.expected == REFUSED:
            assert said, f"accepted although {file.why}: {task.rows['train'].to_list()}, {task.label_names}"
        else:
            assert not said, said
            assert found(task, file.task) == file.expected

    yield check
    datasets.enable_progress_bars()


def found(task: Task, name: str) -> dict[str, Any]:
    """The rows of a task, labels by name."""
    rows, names = task.rows["train"], task.label_names or []
    match name:
        case "sequence_classification":
            return {"text": rows["text"][:], "label": [names[label] for label in rows["label"]]}
        case "multi_label_classification":
            sets = [{name for name, has in zip(names, row, strict=True) if has} for row in rows["label"]]
            return {"text": rows["text"][:], "labels": sets}
        case "token_classification":
            return {"tokens": rows["tokens"][:], "tags": [[names[tag] for tag in row] for row in rows["tags"]]}
        case "causal_lm" | "masked_lm" if task.arguments.train_file and ".txt" in task.arguments.train_file:
            return {"text": "".join(rows["text"])}
    return rows.to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_read_exactly_or_refused(kind: str, check: Callable[[DataFile], None]) -> None:
    search(files(kind), check)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_many_files_are_read_exactly_or_refused(kind: str, check: Callable[[DataFile], None]) -> None:
    search(files(kind), check, 2000)
