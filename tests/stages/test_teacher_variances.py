"""The variance that `normalized_mse` divides by is that of all the data, in whatever order they come."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset

from ted_distill import StageArguments, TaskArguments, load_task
from ted_distill.method.filters import Batch, Signals
from ted_distill.stages.rows.samples import drawn, drawn_batches
from ted_distill.stages.teachers.teacher_variances import LOOKED_AT, measure_variances
from tiny import tiny_tokenizer

ROWS = 4000


class Echo(SimpleNamespace):
    """A teacher whose one state of a token is the token's id."""

    def __call__(self, batch: Batch) -> Signals:
        ids = batch["input_ids"].float().unsqueeze(-1)
        return Signals(ids[:, 0], [ids])


def features(ids: list[int]) -> Dataset:
    """Rows of two equal tokens each."""
    columns: dict[str, Any] = {"input_ids": [[number] * 2 for number in ids], "attention_mask": [[1, 1]] * len(ids)}
    return Dataset.from_dict(columns | {"labels": [0] * len(ids), "length": [2] * len(ids)})


def variance(rows: Dataset, tmp_path: Path, seed: int = 42) -> float:
    task = load_task(TaskArguments("sequence_classification"))
    args = StageArguments(str(tmp_path), seed=seed, use_cpu=True, per_device_train_batch_size=64)
    found = measure_variances(Echo(blocks=[1]), task, args, tiny_tokenizer(), rows)  # type: ignore[arg-type]
    return float(found.squeeze())


def test_a_sorted_file_has_the_variance_of_a_shuffled_one(tmp_path: Path) -> None:
    """Of ids that are 5 in one half of the rows and 9 in the other it is 4; its first 512 rows vary not at all."""
    in_order = [5] * (ROWS // 2) + [9] * (ROWS // 2)
    shuffled = [in_order[row] for row in torch.randperm(ROWS, generator=torch.Generator().manual_seed(1)).tolist()]
    for ids in (in_order, in_order[::-1], shuffled):
        assert variance(features(ids), tmp_path) == pytest.approx(4.0, rel=0.05)


def test_tokens_are_hidden_where_they_are_in_training(tmp_path: Path) -> None:
    """A masked language model's states of whole texts are not those that it is matched on."""
    task = load_task(TaskArguments("masked_lm", mlm_probability=0.5))
    args = StageArguments(str(tmp_path), use_cpu=True, per_device_train_batch_size=64)
    tokenizer = tiny_tokenizer()
    rows = features(list(range(5, 25)) * 20).remove_columns("labels")
    batches, again = (list(drawn_batches(task, args, tokenizer, rows, LOOKED_AT)) for _ in range(2))
    ids, same = (torch.cat([one["input_ids"][one["attention_mask"] != 0] for one in of]) for of in (batches, again))
    assert (ids == tokenizer.mask_token_id).float().mean() > 0.3
    assert torch.equal(ids, same)
    hidden = [batch["input_ids"] == tokenizer.mask_token_id for batch in batches]
    assert not torch.equal(hidden[0], hidden[1]), "other tokens in each batch"


def test_the_seed_alone_decides_which_features_are_looked_at() -> None:
    rows = features(list(range(ROWS)))
    one, again, other = ([row["input_ids"][0] for row in drawn(rows, seed, LOOKED_AT)] for seed in (1, 1, 2))
    assert one == again != other
    assert len(set(one)) == len(one) == LOOKED_AT
    assert min(one) < ROWS / 20 < ROWS - ROWS / 20 < max(one)


def test_all_features_are_looked_at_in_their_order_where_they_are_few() -> None:
    rows = features(list(range(LOOKED_AT)))
    assert [row["input_ids"][0] for row in drawn(rows, 7, LOOKED_AT)] == list(range(LOOKED_AT))


def test_the_first_features_of_a_stream_are_looked_at() -> None:
    stream = features(list(range(ROWS))).to_iterable_dataset()
    assert [row["input_ids"][0] for row in drawn(stream, 7, LOOKED_AT)] == list(range(LOOKED_AT))
