"""Rows of a task on which a narrower student is fitted to its teacher, and how the task reads and judges them."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ...errors import InputError
from ...identity import Identity
from ...method.filters import Batch, FilteredModel
from ...models.load import LoadedModel, ModelArguments, load_model, offer_to_task
from ...models.narrowing.important import TaskRows
from ...models.trying.pad_tokens import pad_token_of
from ...tasks.base import Task
from ...training.updates import collate, row_seeds
from .samples import drawn

logger = logging.getLogger(__name__)

ROWS = 256
"""Features on which importance is measured."""
TOKENS = 8192
"""Tokens, padding included, on which layers are fitted: a layer's inputs and outputs for all are held in memory."""
_BATCH = 8


def task_rows(teacher: str | Path, task: Task, arguments: ModelArguments | None = None, seed: int = 42) -> TaskRows:
    """Training rows drawn by the seed, for `models.narrowing.important.important_student`.

    A teacher whose head is not the task's has no loss to weigh by; a line says so.

    Raises:
        InputError: a teacher that cannot do the task, or a task without training rows.
    """
    if not task.has_offer:
        offer_to_task(teacher, task, arguments)
    if "train" not in task.rows:
        raise InputError(
            "narrow: expected training rows of the task with important, got none; give --train_file or --dataset_name"
        )
    # Changes to a config are for a training, and a student has its teacher's config.
    arguments = replace(arguments or ModelArguments(), config_overrides=None)
    loaded = load_model(teacher, task, arguments, new_head=True)
    has_head = not loaded.fresh and type(loaded.model).__name__ in (loaded.model.config.architectures or [])
    if not has_head:
        logger.warning(
            "narrow: expected a teacher fine-tuned on %s, whose loss says what is important, got %s without a head for "
            "it; keeping what its states say most of",
            task.name, teacher,
        )  # fmt: skip
    features = _features(task, loaded, seed)
    batches = [
        _batch(features[start : start + _BATCH], task, loaded, seed + start)
        for start in range(0, len(features), _BATCH)
    ]
    # In another order than the file's, whose first rows may be of one class or article.
    mixed = np.random.default_rng(seed).permutation(len(features)).tolist()
    longest = list(accumulate((len(features[row]["input_ids"]) for row in mixed), max))
    fitting = sum(length * number <= TOKENS for number, length in enumerate(longest, start=1))
    together = _batch([features[row] for row in mixed[: max(1, fitting)]], task, loaded, seed)

    # The functions below keep these alone, and not the weights, while a student is fitted to another copy of them.
    names, order = loaded.input_names, loaded.label_order

    def run(model: PreTrainedModel, batch: Batch) -> ModelOutput:
        module = FilteredModel(
            model, None, select_logits=task.logits, input_names=names, pad_token_id=pad_token_of(model)
        )
        return module.outputs(batch, output_hidden_states=True)

    def loss(outputs: ModelOutput, batch: Batch) -> Tensor:
        logits = task.logits(outputs)
        return task.loss(logits if order is None else logits[..., order], batch)

    return TaskRows(batches, together, run, loss if has_head else None, rows_identity(task, seed))


def rows_identity(task: Task, seed: int) -> Identity:
    """Everything that the rows follow from."""
    return {
        "task": task.settings,
        "data": task.identity["data"].get("train"),
        "seed": seed, "rows": ROWS, "tokens": TOKENS,
    }  # fmt: skip


def _features(task: Task, loaded: LoadedModel, seed: int) -> list[dict[str, Any]]:
    rows = drawn(task.rows["train"], seed, ROWS)
    whole = rows if isinstance(rows, Dataset) else Dataset.from_list(list(rows))
    features = task.encode_training(whole, loaded.tokenizer)
    return [dict(feature) for feature in drawn(features, seed, ROWS)]


def _batch(features: list[dict[str, Any]], task: Task, loaded: LoadedModel, seed: int) -> Batch:
    batch = collate(features, task, loaded.tokenizer)
    return task.augment(batch, loaded.tokenizer, row_seeds(batch, seed))
