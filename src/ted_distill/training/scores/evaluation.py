"""The only scoring path, in training and after it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ...errors import NotFiniteError
from ...fast.states_cache import ROW
from ...method.filters import Batch
from ...progress import watched
from ...tasks.base import Metrics, Split, Task
from ...tasks.padding import right_padded
from ..fitting_memory import room_to_score


def evaluate(logits_of: Callable[[Split], list[np.ndarray]], task: Task, validation: dict[str, Split]) -> Metrics:
    """Score a model on every validation split, in percent.

    Args:
        logits_of: split -> logits, one array per feature, as `predict` returns them.
        validation: `validation` and, for MNLI, `validation_mismatched`, whose scores are prefixed `mismatched_`.
    """
    metrics: Metrics = {}
    for name, split in validation.items():
        scores = score(logits_of(split), task, split)
        metrics |= {prefixed(name, key): value for key, value in scores.items()}
    return metrics


def score(logits: list[np.ndarray], task: Task, split: Split) -> Metrics:
    """Scores of one model's logits on one split, in percent."""
    return task.score(task.decode(logits, split), split.rows)


def prefixed(split: str, key: str) -> str:
    """The name of a score: `validation_mismatched` gives `mismatched_accuracy`."""
    suffix = split.removeprefix("validation").lstrip("_")
    return f"{suffix}_{key}" if suffix else key


def predict(
    forward: Callable[[Batch], Tensor],
    task: Task,
    split: Split,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    batch_size: int,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    together: bool = False,
) -> list[np.ndarray]:
    """Logits of every feature, in order, float32; token-level ones include their batch's padding.

    The longest features go first: batches hold rows of similar length, and running out of memory happens immediately.
    Under `torchrun`, every process runs its share of the batches, and all processes get all logits.

    Args:
        together: whether the processes wait for each other in `forward`, as where weights are sharded. All of them call
            it equally often then, the last ones with rows that are not theirs.

    Raises:
        NoRoomError: there is no memory for this many rows at once.
        NotFiniteError: a logit is no number.
    """
    features = split.features
    order = np.argsort(-np.asarray(features["length"]), kind="stable")
    batches = [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
    state = PartialState()
    mine = batches[state.process_index :: state.num_processes]
    # The last process has a batch less where they do not come out even.
    idle = together and len(mine) * state.num_processes < len(batches)
    found: list[tuple[int, np.ndarray]] = []
    # What is gathered in inference mode, a later backward pass could not use.
    with torch.no_grad() if together else torch.inference_mode():
        for rows in watched(
            [*mine, *batches[:idle]], "evaluating", len(order), "rows", batch_size * state.num_processes
        ):
            batch = right_padded(task.collate([features[row] for row in rows], tokenizer))
            batch |= {ROW: torch.tensor(rows)}
            with room_to_score(batch_size):
                batch = {name: tensor.to(device) for name, tensor in batch.items()}
                with autocast():
                    logits = forward(batch)
                found += zip(rows, logits.float().cpu().numpy(), strict=True)
    if idle:
        del found[-len(batches[0]) :]
    if state.num_processes > 1:
        found = gather_object(found)
    by_row = dict(found)
    logits_in_order = [by_row[row] for row in range(len(features))]
    if not all(np.isfinite(array).all() for array in logits_in_order):
        raise NotFiniteError("the model's logits are not finite numbers: its weights are damaged, or it overflowed")
    return logits_in_order
