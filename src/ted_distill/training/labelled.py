"""Batches in which only some rows have labels: the prediction loss is of these alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ..method.filters import Batch
from ..method.losses import wide
from ..tasks.base import Counts, Task

LABELLED = "labelled"
"""Column of features and key of a batch, (B,) Boolean: whether a row's label is one, not a placeholder."""


def labelled_part(batch: Batch) -> Batch:
    """The rows of a batch that have labels, of every tensor whose first axis is B."""
    rows = batch[LABELLED]
    return {
        name: tensor[rows] if tensor.ndim and len(tensor) == len(rows) else tensor
        for name, tensor in batch.items()
        if name != LABELLED
    }


def labelled_loss(task: Task, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
    """`task.loss` of the rows that have labels; of all rows if the batch does not tell them apart.

    Args:
        logits: (B, ...), of all rows.
        count: labelled items of the whole update [of the batch].
    """
    if LABELLED not in batch:
        return task.loss(logits, batch, count)
    rows = batch[LABELLED]
    if not rows.any():
        # No items, and yet part of the graph: a process may have nothing else to send gradients of.
        return wide(logits[:0]).sum()
    return task.loss(logits[rows], labelled_part(batch), count)


def labelled_counts(task: Task, batch: Batch) -> Counts:
    """`task.counts`, with the labels of labelled rows alone."""
    counts = task.counts(batch)
    if LABELLED not in batch:
        return counts
    if not batch[LABELLED].any():
        return counts._replace(labels=torch.zeros_like(counts.labels))
    return counts._replace(labels=task.counts(labelled_part(batch)).labels)
