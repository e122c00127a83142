"""Stage I: learn filters on a frozen, fine-tuned model, and score how much each block knows about the task."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..fast.precision import cast_weights, resolve_dtype, restore_weights
from ..fast.states_cache import StatesCache
from ..method.filter_files import save_filters
from ..method.filters import Batch, FilterConfig, FilteredModel, Filters, initializer_range
from ..models.load import LoadedModel, ModelArguments, load_model, offer_labels_of
from ..output import write_json
from ..ranges import at_least, check_ranges, one_of
from ..tasks.base import Counts, Metrics, Split, Task
from ..training import evaluation
from ..training.checkpointing import bytes_of
from ..training.model_card import write_card
from ..training.speed import undo_fast_modules, use_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.trainer import StageTrainer
from .filter_starts import check_filter_init, sample_batches, scaled_start, start_from
from .lifecycle import OpenStage, StageData, prepare, publish, read_data, states_cache
from .stage_identity import Results, places, stage_identity

logger = logging.getLogger(__name__)

BLOCK_SCORES_NAME = "block_scores.json"
FILTER_INITS = ("normal", "scaled")
_CHECKPOINT_NAME = "filters_and_heads.safetensors"
_NOT_OF_SHAPE = {"frozen_dropout", "filter_init"}


@dataclass
class LearnFiltersArguments:
    """Which blocks get a filter, and the shape of the filters."""

    _argument_group_name: ClassVar[str] = "filters"

    filter_interval: Annotated[int, at_least(1)] = field(
        default=1, metadata={"help": "a filter after every so many blocks"}
    )
    filter_output_dim: Annotated[int | None, at_least(1)] = field(
        default=None, metadata={"help": "filter width [the model's own width]"}
    )
    filter_nonlinear: bool = field(default=False, metadata={"help": "Linear -> act -> Linear instead of Linear"})
    filter_blocks: Annotated[list[int] | None, at_least(1)] = field(
        default=None, metadata={"help": "a filter after each of these blocks"}
    )
    filter_init: Annotated[str, one_of(FILTER_INITS)] = field(
        default="normal",
        metadata={
            "help": "weights that filters start from: normal (random), or scaled (the identity in units of the states' "
            "standard deviation)"
        },
    )
    frozen_dropout: bool = field(
        default=False, metadata={"help": "dropout on in the frozen model, as in the published code; nothing is cached"}
    )

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)


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

    def train(self, mode: bool = True) -> FilterLearner:
        """Train filters and heads only: the frozen model stays in eval mode, without dropout."""
        super().train(mode)
        self.filtered.model.train(mode and self.frozen_dropout)
        return self

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
    """Trains a `FilterLearner` on `mean_k task_loss(head^k(g^k(H^k)), labels)` (method, section 1)."""

    caches: dict[str, StatesCache | None] = {}
    """Where the frozen model's hidden states on a validation split are kept, by the split's name."""
    block_scores: dict[str, Metrics] = {}
    """Scores of every head, by block number, and of the model itself under `model`; as of the last `score`."""
    scored_step: int | None = None
    """The step at which `block_scores` was computed."""

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
        return [(name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad]


def learn_filters(
    model_name_or_path: str | Path,
    task: Task,
    args: StageArguments,
    filter_arguments: LearnFiltersArguments | None = None,
    model_arguments: ModelArguments | None = None,
) -> Results:
    """Learn a fine-tuned model's filters; leave model, filters and `block_scores.json` in `args.output_dir`.

    Returns:
        The heads' mean score and each block's score, in percent, and the rest of `all_results.json`.

    Raises:
        InputError: before any training, with all problems.
        TrainingError: the loss is no longer a number.
    """
    return open_learn_filters(model_name_or_path, task, args, filter_arguments, model_arguments).result()


def open_learn_filters(
    model_name_or_path: str | Path,
    task: Task,
    args: StageArguments,
    filter_arguments: LearnFiltersArguments | None = None,
    model_arguments: ModelArguments | None = None,
) -> OpenStage:
    """`learn_filters` up to its first write: checks arguments, data, model and folder. Raises `InputError`."""
    filter_arguments = filter_arguments or LearnFiltersArguments()
    offer_labels_of(model_name_or_path, task, model_arguments)
    args = prepare(task, args, models=[model_name_or_path])
    models = {"model": load_model(model_name_or_path, task, model_arguments)}
    models["model"].require_states()
    shape = {name: value for name, value in vars(filter_arguments).items() if name not in _NOT_OF_SHAPE}
    config = FilterConfig.for_model(models["model"].model.config, **shape)
    filter_init = filter_arguments.filter_init
    check_filter_init(filter_init, config)
    filters = {**vars(config), "frozen_dropout": filter_arguments.frozen_dropout, "filter_init": filter_init}
    identity = stage_identity("learn_filters", task, args, models, filters=filters)

    def run() -> Results:
        return _run(models["model"], config, task, args, model_arguments, filter_arguments.frozen_dropout, filter_init)

    return OpenStage(args, identity, places(task, models), run)


def _run(
    loaded: LoadedModel,
    config: FilterConfig,
    task: Task,
    args: StageArguments,
    model_arguments: ModelArguments | None,
    frozen_dropout: bool,
    filter_init: str,
) -> Results:
    data = read_data(task, loaded.tokenizer, args)
    # A model that was cast cannot be saved as it was. It is loaded again at the end, or a copy is kept if loading
    # again would give other weights.
    cast = resolve_dtype(args.frozen_dtype, args.device, args.fp16) != loaded.model.dtype
    kept = copy.deepcopy(loaded.model) if cast and loaded.fresh else None
    model_bytes = bytes_of(loaded.model.state_dict().values())
    trainer = filter_trainer(loaded, config, task, args, data, frozen_dropout, filter_init)
    trainer.check_room(model_bytes, [trainer.model.filtered.cache, *trainer.caches.values()])
    outcome = trainer.fit()
    if data.validation and trainer.scored_step != (outcome["best_step"] or trainer.state.global_step):
        trainer.score()
    if cast:
        undo_fast_modules(loaded.model)
        restore_weights(loaded.model, kept or load_model(loaded.name, task, model_arguments).model)
    filters = trainer.model.filtered.filters

    def write_files(folder: Path) -> None:
        save_filters(folder, filters, loaded.model)
        write_json(
            folder / BLOCK_SCORES_NAME, {"task": task.name, "metric": task.metric, "blocks": trainer.block_scores}
        )
        write_card(folder, "learn_filters", task, outcome, loaded.name)

    results = publish(trainer, outcome, loaded, "learn_filters", write_files)
    logger.warning(
        "%s of each block's filter head:\n%s", task.metric, block_scores_table(trainer.block_scores, task.metric)
    )
    return results


def filter_trainer(
    loaded: LoadedModel,
    config: FilterConfig,
    task: Task,
    args: StageArguments,
    data: StageData,
    frozen_dropout: bool = False,
    filter_init: str = "normal",
) -> LearnFiltersTrainer:
    """The trainer of fresh filters and heads on a frozen model, which is cast to `frozen_dtype` in place.

    The model's outputs are kept for later epochs, of training and of validation rows, unless its dropout is on.
    """
    dtype = resolve_dtype(args.frozen_dtype, args.device, args.fp16)
    filters = Filters.random(config, initializer_range(loaded.model.config))
    heads = nn.ModuleList(task.filter_head(config.filter_output_dim, loaded.model) for _ in config.blocks)
    loaded.identity  # noqa: B018  (of the weights before they are cast: it is kept)
    cast_weights(loaded.model, dtype)
    learner = FilterLearner(loaded.with_filters(filters, task, task.first_token_only), heads, frozen_dropout)
    trainer = LearnFiltersTrainer(learner, args, task, loaded.tokenizer, data.train, data.validation)
    use_fast_modules(loaded.model, args, frozen=not frozen_dropout)
    if filter_init == "scaled":
        # All tokens, also where the heads read the first alone: Stage II matches all of them.
        unfiltered = loaded.with_filters(Filters.identity(config.blocks), task).freeze().to(args.device)
        start_from(
            filters, scaled_start(unfiltered, config, task, sample_batches(task, args, loaded.tokenizer, data.train))
        )
    if not frozen_dropout:
        keep = partial(states_cache, args, task, loaded, config.blocks, dtype, task.first_token_only)
        learner.filtered.cache = keep(data.train)
        trainer.caches = {name: keep(split.features) for name, split in data.validation.items()}
    return trainer


def block_scores_table(block_scores: dict[str, Metrics], metric: str) -> str:
    """One line per block, with a bar, for the screen."""
    found = {name: scores[metric] for name, scores in block_scores.items() if metric in scores}
    longest = max([100.0, *found.values()])  # a perplexity is no percentage
    rows = []
    for name, value in found.items():
        label = "whole model" if name == "model" else f"block {name}"
        rows.append(f"  {label:<12} {value:6.2f}  {'#' * round(40 * max(value, 0) / longest)}")
    return "\n".join(rows)
