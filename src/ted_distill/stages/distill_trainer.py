"""The trainer of Stage II."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..method.filter_files import load_filters, save_filters
from ..method.filters import Batch, FilteredModel, Filters
from ..models.load import read_weights
from ..tasks.base import Counts, Metrics
from ..training import evaluation
from ..training.trainer import StageTrainer
from .distillation_terms import LossSettings, distillation_terms
from .teacher_inputs import TeacherInputs


class DistillTrainer(StageTrainer):
    """Trains the student, a `FilteredModel`, and its filters against a teacher.

    Args:
        teacher: a frozen `FilteredModel`; None to train on the labels alone.
        pairs: (teacher block, student block); empty if no blocks are matched.
        settings: the terms of the loss and their weights.
        teacher_inputs: what the teacher reads, if its tokenizer is not the student's.
    """

    def __init__(
        self,
        *args: Any,
        teacher: FilteredModel | None,
        pairs: list[tuple[int, int]],
        settings: LossSettings,
        teacher_inputs: TeacherInputs | None = None,
    ) -> None:
        super().__init__(*args)
        self.teacher = teacher
        self.pairs = pairs
        self.settings = settings
        self.teacher_inputs = teacher_inputs
        if teacher_inputs is not None:
            self.data_collator = teacher_inputs.collate

    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """See `distillation_terms`."""
        # The teacher first: its temporary memory is free again when the student's graph is made.
        of_teacher = batch if self.teacher_inputs is None else self.teacher_inputs.of_batch(batch)
        teacher = None if self.teacher is None else self.teacher(of_teacher)
        progress = self.state.global_step / max(1, self.state.max_steps)
        return distillation_terms(model(batch), teacher, self.task, batch, self.settings, counts, progress)

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """`layer_loss/teacher_4_student_2` for a pair."""
        if name == "pair_losses":
            for (teacher, student), loss in zip(self.pairs, terms, strict=True):
                yield f"layer_loss/teacher_{teacher}_student_{student}", loss
        else:
            yield name, terms

    def score(self) -> Metrics:
        """Scores of the student's own predictions."""
        return evaluation.evaluate(self.logits_of(self.scored_logits), self.task, self.validation)

    def save_weights(self, folder: Path) -> None:
        """Write the plain student, with its filters next to it."""
        self.model.model.save_pretrained(folder)
        if (filters := self.trained_filters) is not None:
            save_filters(folder, filters, self.model.model)

    def load_weights(self, folder: Path) -> None:
        """Read a plain checkpoint of the student, and its filters."""
        read_weights(self.model.model, folder)
        if (filters := self.trained_filters) is not None:
            filters.load_state_dict(load_filters(folder, self.model.model, "student").state_dict())

    @property
    def trained_filters(self) -> Filters | None:
        """The student's filters, unless they are the identity, which has no weights."""
        filters: Filters | None = self.model.filters
        return None if filters is None or filters.config is None else filters
