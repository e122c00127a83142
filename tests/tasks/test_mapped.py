"""Features of rows from the cache of `datasets`, and how many threads make them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from datasets import Dataset

from ted_distill.tasks.reading.mapped import mapped

PARALLELISM = "TOKENIZERS_PARALLELISM"


def told(rows: dict[str, list[Any]], number: int) -> dict[str, list[Any]]:
    """What tokenizers are told in the process that maps."""
    return {"told": [os.environ.get(PARALLELISM, "nothing") for _ in rows["text"]]}


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
