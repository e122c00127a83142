"""What the teacher says about a batch. A loss takes `TeacherSignals` and cannot tell where they come from."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .filters import Batch, FilteredModel


class TeacherSignals(NamedTuple):
    """The teacher's logits, shaped like the student's, and its K states (B, T, F); no gradient."""

    logits: Tensor
    states: list[Tensor]


class Teacher(Protocol):
    """Anything that has signals for a batch."""

    def __call__(self, batch: Batch) -> TeacherSignals:
        """Signals of the rows of `batch`."""
        ...


class FrozenTeacher:
    """A teacher in eval mode, without an autograd graph. One with a cache is run on a row but once."""

    def __init__(self, model: FilteredModel) -> None:
        self.model = model.freeze()

    def to(self, device: torch.device) -> FrozenTeacher:
        """Move the teacher to where the batches are."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherSignals:
        """Logits and filtered states of the batch, in the teacher's own precision."""
        with torch.autocast(batch["input_ids"].device.type, enabled=False):
            output = self.model(batch)
        return TeacherSignals(output.logits, output.states)
