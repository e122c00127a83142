"""Features of rows from the cache of `datasets`, and how many threads make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

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
