"""The loss of Stage II (docs/method.md, "In four equations"), and its trainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..method.filter_files import load_filters, save_filters
from ..method.filters import Batch, FilteredModel, Filters, Signals
from ..method.layer_losses import LayerLoss, layer_losses, mean_of_pairs
from ..method.losses import LayerSchedule, distillation_loss, schedule_weights
from ..method.relations import relation_loss
from ..models.load import read_weights
from ..tasks.base import Counts, Task
from ..training.labelled import labelled_loss
from ..training.trainer import StageTrainer
from .teachers.teacher_inputs import TeacherInputs


@dataclass(frozen=True)
class LossSettings:
    """What the terms of Stage II are, and how much each counts."""

    kl_alpha: float
    mse_alpha: float
    temperature: float
    attention_alpha: float = 0.0
    losses: Sequence[LayerLoss] | None = None
    """The layer loss of each pair, see `method.layer_losses.bind_layer_loss` [`mse_layer_loss`]."""
    pair_weights: Sequence[float] | None = None
    """How much each pair counts in the mean over pairs [alike]."""
    layer_schedule: LayerSchedule = "constant"
    relation_heads: int = 1
    causal: bool = False
    """Whether a token's attention relations are to itself and earlier tokens alone."""
    matched: slice | Tensor | None = None
    """Places of the logits that are matched, see `models.tokenizers.matched_logits` [all]."""

    @property
    def formula(self) -> str:
        """The loss with its weights, for people to read."""
        terms = [f"pred_loss + {self.kl_alpha:g} * match_loss (temperature {self.temperature:g})"]
        terms += [f"{self.mse_alpha:g} * layer_loss"] if self.losses else []
        terms += [f"{self.attention_alpha:g} * relation_loss"] if self.attention_alpha else []
        return " + ".join(terms)


def distillation_terms(
    student: Signals,
    teacher: Signals | None,
    task: Task,
    batch: Batch,
    settings: LossSettings,
    counts: Counts | None = None,
    progress: float = 0.0,
) -> dict[str, Tensor]:
    """The terms of Stage II's loss, and under `loss` their weighted sum.

    Rows without labels (`training.labelled`) count in all terms but the prediction loss.

    `pair_losses` are the layer losses (K,) and `layer_loss` is their mean; both are missing if no blocks are matched.

    Args:
        teacher: None for a student that is trained on the labels alone.
        counts: number of items in the whole update, to average over [those of the batch].
        progress: share of the updates that have been made, 0 to 1.
    """
    labels, predictions, tokens = counts or (None, None, None)
    pred_loss = labelled_loss(task, student.logits, batch, labels)
    if teacher is None:
        return {"loss": pred_loss, "pred_loss": pred_loss}
    of_student, of_teacher = (
        signals.logits if settings.matched is None else signals.logits[..., settings.matched]
        for signals in (student, teacher)
    )
    match_loss = task.match(of_student, of_teacher, batch, settings.temperature, predictions)
    terms = {"pred_loss": pred_loss, "match_loss": match_loss}
    layer_loss = torch.zeros_like(pred_loss)
    if student.states or teacher.states:
        pair_losses = layer_losses(student.states, teacher.states, task.mask(batch), tokens, settings.losses)
        layer_loss = mean_of_pairs(pair_losses, settings.pair_weights)
        terms |= {"layer_loss": layer_loss, "pair_losses": pair_losses}
    relations = None
    if student.vectors or teacher.vectors:
        heads = settings.relation_heads
        mask = task.mask(batch)
        relations = relation_loss(student.vectors, teacher.vectors, mask, heads, tokens, settings.causal)
        terms["relation_loss"] = relations
    weights = schedule_weights(settings.layer_schedule, progress)
    alphas = settings.kl_alpha, settings.mse_alpha
    loss = distillation_loss(
        pred_loss, match_loss, layer_loss, *alphas, relations, settings.attention_alpha, weights=weights
    )
    return {"loss": loss, **terms}


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

    def frozen_models(self) -> list[FilteredModel]:
        """The teacher, if there is one."""
        return [] if self.teacher is None else [self.teacher]

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """`layer_loss/teacher_4_student_2` for a pair."""
        if name == "pair_losses":
            for (teacher, student), loss in zip(self.pairs, terms, strict=True):
                yield f"layer_loss/teacher_{teacher}_student_{student}", loss
        else:
            yield name, terms

    def save_weights(self, folder: Path) -> None:
        """Write the plain student, with its filters next to it."""
        self.whole.model.save_pretrained(folder)
        if (filters := self.trained_filters) is not None:
            save_filters(folder, filters, self.whole.model)

    def load_weights(self, folder: Path) -> None:
        """Read a plain checkpoint of the student, and its filters."""
        read_weights(self.whole.model, folder)
        if (filters := self.trained_filters) is not None:
            filters.load_state_dict(load_filters(folder, self.whole.model, "student").state_dict())

    @property
    def trained_filters(self) -> Filters | None:
        """The student's filters, unless they are the identity, which has no weights."""
        filters: Filters | None = self.whole.filters
        return None if filters is None or filters.config is None else filters
