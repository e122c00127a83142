"""What Stage I trains: a frozen model's filters, each with a temporary head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...fast.states_cache import StatesCache
from ...method.filters import Batch, FilteredModel
from ...tasks.base import Counts, Metrics, Split
from ...training.checkpointing import bytes_of
from ...training.scores import evaluation
from ...training.scores.selection import FILTER_HEADS
from ...training.trainer import StageTrainer

_CHECKPOINT_NAME = "filters_and_heads.safetensors"


class FilterLearner(nn.Module):
    """A frozen model, its filters, and a temporary head for each: batch -> logits of K heads, and the model's own.

    Args:
        frozen_dropout: leave the frozen model's dropout on, as the published code does.
    """

    def __init__(self, filtered: FilteredModel, heads: nn.ModuleList, frozen_dropout: bool = False) -> None:
        super().__init__()
        self.filtered = filtered.freeze_model()
        self.heads = heads
        self.frozen_dropout = frozen_dropout
        self._mode_of_model: bool | None = None

    def train(self, mode: bool = True) -> FilterLearner:
        """Train filters and heads only: the frozen model stays in eval mode, without dropout."""
        self.training = self.filtered.training = mode
        self.heads.train(mode)
        if self.filtered.filters is not None:
            self.filtered.filters.train(mode)
        # The Trainer says this before every update, and to go through a large model takes longer than an update.
        of_model = mode and self.frozen_dropout
        if of_model is not self._mode_of_model or self.filtered.model.training is not of_model:
            self.filtered.model.train(of_model)
            self._mode_of_model = of_model
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of filters and heads; the frozen model has none."""
        self.heads.zero_grad(set_to_none)
        if self.filtered.filters is not None:
            self.filtered.filters.zero_grad(set_to_none)

    def gradient_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a frozen model keeps no activations for a backward pass. `transformers.Trainer` calls this."""

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """The same, under the name that newer versions of transformers use."""

    def forward(
        self, batch: Batch, apply: Callable[[nn.Module, Tensor], Tensor] = nn.Module.__call__
    ) -> tuple[list[Tensor], Tensor]:
        """`apply(head, states)` for each of the K heads (by default, its logits), and the model's own logits.

        The model's own logits are not used in training, and may then be those of the last token only.
        """
        signals = self.filtered(batch, need_logits=not self.training)
        return [apply(head, states) for head, states in zip(self.heads, signals.states, strict=True)], signals.logits


def filter_head_losses(block_losses: list[Tensor]) -> dict[str, Tensor]:
    """The losses of the K heads, and under `loss` their mean."""
    # Added in the order of the blocks: `mean` adds in another order, which changes the last digit in float32.
    total = sum(block_losses[1:], block_losses[0])
    return {"loss": total / len(block_losses), "block_losses": torch.stack(block_losses)}


class LearnFiltersTrainer(StageTrainer):
    """Trains a `FilterLearner` on `mean_k task_loss(head^k(g^k(H^k)), labels)` (docs/method.md)."""

    scores_of = FILTER_HEADS
    caches: dict[str, StatesCache | None] = {}
    """Where the frozen model's hidden states on a validation split are kept, by the split's name."""
    saves_trained_alone = True
    can_recompute = False
    """A frozen model keeps no activations."""
    block_scores: dict[str, Metrics] = {}
    """Scores of every head, by block number, and of the model itself under `model`; as of the last `score`."""
    scored_step: int | None = None
    """The step at which `block_scores` was computed."""

    def frozen_models(self) -> list[FilteredModel]:
        """The model whose filters are learnt."""
        return [self.model.filtered]

    def caches_of_frozen(self) -> list[StatesCache]:
        """Those of the training rows and of every validation split."""
        return [*super().caches_of_frozen(), *(cache for cache in self.caches.values() if cache is not None)]

    @property
    def blocks(self) -> list[int]:
        """Blocks with a filter, 1-based."""
        return self.model.filtered.filters.blocks

    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """Mean over the K heads of the task's loss."""
        loss = partial(self._head_loss, batch=batch, count=counts.labels)
        return filter_head_losses(model(batch, loss)[0])

    def _head_loss(self, head: nn.Module, states: Tensor, batch: Batch, count: Tensor) -> Tensor:
        return self.task.filter_head_loss(head, states, batch, count)

    def term_names(self, name: str, terms: Tensor) -> Iterator[tuple[str, Tensor]]:
        """`loss/block_3` for the head of block 3."""
        if name == "block_losses":
            yield from ((f"loss/block_{block}", loss) for block, loss in zip(self.blocks, terms, strict=True))
        else:
            yield name, terms

    def score(self) -> Metrics:
        """Means of the heads' scores, and each head's main score; all their scores go to `block_scores`."""
        names = [*map(str, self.blocks), "model"]
        self.block_scores = {name: {} for name in names}
        self.scored_step = self.state.global_step
        for split_name, split in self.validation.items():
            logits = self._logits_with(self.caches.get(split_name), split)
            for number, name in enumerate(names):
                scores = evaluation.score([row[number] for row in logits], self.task, split)
                self.block_scores[name] |= {
                    evaluation.prefixed(split_name, key): value for key, value in scores.items()
                }
        heads = [self.block_scores[str(block)] for block in self.blocks]
        means = {name: sum(scores[name] for scores in heads) / len(heads) for name in heads[0]}
        metric = self.task.metric
        return means | {f"{metric}_block_{block}": self.block_scores[str(block)][metric] for block in self.blocks}

    def _logits_with(self, cache: StatesCache | None, split: Split) -> list[np.ndarray]:
        training_cache, self.model.filtered.cache = self.model.filtered.cache, cache
        try:
            return self.logits_of(self._all_logits)(split)
        finally:
            self.model.filtered.cache = training_cache

    def _all_logits(self, batch: Batch) -> Tensor:
        scored, logits = self.model(batch, lambda head, states: self.task.scored(head(states), batch))
        return torch.stack([*scored, self.task.scored(logits, batch)], dim=1)

    def save_weights(self, folder: Path) -> None:
        """Write filters and heads, but not the frozen model, which does not change."""
        save_file({name: weight.detach().cpu() for name, weight in self._trained()}, folder / _CHECKPOINT_NAME)

    @property
    def checkpoint_bytes(self) -> int:
        """Those of filters and heads."""
        return bytes_of(weight for _, weight in self._trained())

    def load_weights(self, folder: Path) -> None:
        """Read filters and heads."""
        saved = load_file(folder / _CHECKPOINT_NAME)
        for name, weight in self._trained():
            weight.data.copy_(saved[name])

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, weight) for name, weight in self.whole.named_parameters() if weight.requires_grad]
