"""Rows on which a stage measures something before it trains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from ted_distill import StageArguments, TaskArguments, load_task
from ted_distill.stages.rows import samples
from tiny import tiny_tokenizer


@pytest.mark.parametrize(("rows", "tokens", "drawn"), [(40, 2, 40), (40, 10_000, 10)])
def test_as_many_rows_are_announced_as_are_drawn(
    rows: int, tokens: int, drawn: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[int] = []

    def watched(found: Iterable[Any], what: str, total: int, unit: str) -> Iterable[Any]:
        announced.append(total)
        return iter(found)

    monkeypatch.setattr(samples, "watched", watched)
    columns: dict[str, Any] = {"input_ids": [[5, 5]] * rows, "attention_mask": [[1, 1]] * rows}
    features = Dataset.from_dict(columns | {"labels": [0] * rows, "length": [tokens] * rows})
    args = StageArguments(str(tmp_path), use_cpu=True, per_device_train_batch_size=8)
    task = load_task(TaskArguments("sequence_classification"))
    batches = list(samples.drawn_batches(task, args, tiny_tokenizer(), features))
    assert announced == [drawn]
    assert sum(len(batch["input_ids"]) for batch in batches) == drawn
