"""Features of rows from the cache of `datasets`, and how many threads make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset

from ted_distill.tasks.reading.mapped import mapped

PARALLELISM = "TOKENIZERS_PARALLELISM"


def told(rows: dict[str, list[Any]], number: int) -> dict[str, list[Any]]:
    """What tokenizers are told in the process that maps."""
    return {"told": [os.environ.get(PARALLELISM, "nothing") for _ in rows["text"]]}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """`datasets` puts a copy in the place of `os.environ`; later tests would fork with threads that tokenise."""
    before, said = os.environ, os.environ[PARALLELISM]
    yield
    os.environ = before  # noqa: B003
    os.environ[PARALLELISM] = said


calls: list[int] = []
"""Rows of each call of `counted`."""


def counted(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Lengths of texts; notes that it was called."""
    calls.append(len(rows["text"]))
    return {"length": [len(text) for text in rows["text"]]}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    calls.clear()
    return tmp_path / "cache"


def lengths(rows: int, text: str = "a") -> list[int]:
    """What is mapped of this many rows in memory."""
    given = Dataset.from_dict({"text": [text * (row % 7) for row in range(rows)]})
    found: list[int] = mapped(given, counted, description="counting")["length"][:]
    return found


def test_what_is_made_of_many_rows_in_memory_is_kept(cache: Path) -> None:
    expected = [row % 7 for row in range(1000)]
    assert lengths(1000) == lengths(1000) == expected
    assert sum(calls) == 1000
    assert lengths(1000, "ab") == [2 * length for length in expected]
    assert sum(calls) == 2000
    assert len([*cache.rglob("*.arrow")]) == len([*cache.rglob("*.*")]) == 2


def test_what_is_made_of_a_few_rows_in_memory_is_not_kept(cache: Path) -> None:
    assert lengths(3) == lengths(3) == [0, 1, 2]
    assert calls == [3, 3]
    assert not cache.exists()


def test_rows_in_memory_need_no_folder_that_can_be_written(cache: Path) -> None:
    cache.write_text("no folder")
    assert lengths(1000) == lengths(1000)
    assert sum(calls) == 2000


@pytest.mark.parametrize(
    ("processes", "said", "expected"),
    [(None, None, "nothing"), (2, None, "false"), (2, "true", "false"), (None, "true", "true")],
)
def test_tokenizers_have_one_thread_only_in_processes_that_are_forked(
    processes: int | None, said: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PARALLELISM, raising=False)
    if said is not None:
        monkeypatch.setenv(PARALLELISM, said)
    rows = Dataset.from_dict({"text": ["a", "b"]})
    found = mapped(rows, told, description="asking", num_proc=processes, number=0)
    assert found["told"][:] == [expected] * 2
    assert os.environ.get(PARALLELISM) == said
