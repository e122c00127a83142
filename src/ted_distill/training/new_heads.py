"""Where a new head of a regression begins: at the mean score; it would climb there from 0 for hundreds of updates."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from ..tasks.base import Task


def start_at_the_mean(model: nn.Module, drawn: Collection[str], task: Task) -> None:
    """Set the bias of a new head with one output to the mean label of the training rows.

    Args:
        drawn: names of the weights that were drawn anew.
    """
    if not drawn or task.problem_type != "regression":
        return
    rows = task.rows.get("train")
    if not isinstance(rows, Dataset):
        return
    weights = dict(model.named_parameters())
    for name in drawn:
        bias = weights.get(name)
        if bias is not None and name.endswith("bias") and bias.numel() == 1:
            with torch.no_grad():
                bias.fill_(float(np.mean(rows["label"][:])))
