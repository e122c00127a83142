"""Stage I: learn filters on a frozen, fine-tuned model, and score how much each block knows about the task."""

from __future__ import annotations

import copy
import logging
from functools import partial
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel

from ..entries import entry
from ..errors import InputError
from ..fast.precision import resolve_dtype, restore_weights
from ..method.filter_files import save_filters
from ..method.filters import FilterConfig, Filters, initializer_range
from ..models.given import Model, as_name
from ..models.load import LoadedModel, ModelArguments, load_model, offer_to_task
from ..output import write_json
from ..progress import remembering
from ..tasks.base import Task
from ..training.checkpointing import bytes_of
from ..training.fitting_memory import room_to_begin
from ..training.scores.best_score import chosen_score
from ..training.shown.model_card import write_card
from ..training.speed import undo_fast_modules, use_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.stage_defaults import learn_filters_defaults, refuse_search
from .filters.block_scores import BLOCK_SCORES_NAME, block_scores_table
from .filters.filter_arguments import LearnFiltersArguments
from .filters.filter_learner import FilterLearner, LearnFiltersTrainer
from .filters.filter_starts import identity_start, scaled_start, start_from
from .lifecycle import OpenStage, StageData, prepare, publish, read_data, states_cache
from .rows.samples import drawn_batches
from .stage_identity import Results, places, stage_identity
from .teachers.frozen import cast_frozen, pack_frozen
from .uninformed import uninformed_heads

logger = logging.getLogger(__name__)


@entry
@remembering()
def learn_filters(
    model_name_or_path: Model,
    task: Task,
    args: StageArguments,
    filter_arguments: LearnFiltersArguments | None = None,
    model_arguments: ModelArguments | None = None,
) -> Results:
    """Learn a fine-tuned model's filters; leave model, filters and `block_scores.json` in `args.output_dir`.

    Args:
        model_name_or_path: folder, Hub id or (model, tokenizer).

    Returns:
        The heads' mean score and each block's score, in percent, and the rest of `all_results.json`.

    Raises:
        InputError: before any training, with all problems.
        TrainingError: the loss is no longer a number.
    """
    return open_learn_filters(as_name(model_name_or_path), task, args, filter_arguments, model_arguments).result()


def open_learn_filters(
    model_name_or_path: str | Path,
    task: Task,
    args: StageArguments,
    filter_arguments: LearnFiltersArguments | None = None,
    model_arguments: ModelArguments | None = None,
) -> OpenStage:
    """`learn_filters` up to its first write: checks arguments, data, model and folder. Raises `InputError`."""
    filter_arguments = filter_arguments or LearnFiltersArguments()
    offer_to_task(model_name_or_path, task, model_arguments)
    args = prepare(task, args, models=[model_name_or_path])
    models = {"model": load_model(model_name_or_path, task, model_arguments)}
    models["model"].require_states()
    config = filter_arguments.shape(models["model"].model.config)
    filters = filter_arguments.identity(task, config)
    defaults = learn_filters_defaults(task.first_token_only, task.running_text)
    args = defaults.fill(args, models["model"].model.config)
    refuse_search(args)
    identity = stage_identity("learn_filters", task, args, models, filters=filters)

    def run() -> Results:
        return _run(models["model"], config, task, args, model_arguments, filter_arguments)

    return OpenStage(args, identity, places(task, models), run, title="learn_filters")


def _run(
    loaded: LoadedModel,
    config: FilterConfig,
    task: Task,
    args: StageArguments,
    model_arguments: ModelArguments | None,
    filter_arguments: LearnFiltersArguments,
) -> Results:
    data = read_data(task, loaded.tokenizer, args)
    # A model that was cast cannot be saved as it was. It is loaded again at the end, or a copy is kept if loading
    # again would give other weights.
    cast = resolve_dtype(args.frozen_dtype, args.device, args.fp16) != loaded.model.dtype
    kept = copy.deepcopy(loaded.model) if cast and loaded.fresh else None
    model_bytes = bytes_of(loaded.model.state_dict().values())
    with room_to_begin(args, can_recompute=False):
        trainer = filter_trainer(loaded, config, task, args, data, filter_arguments)
    trainer.check_room(model_bytes, [trainer.model.filtered.cache, *trainer.caches.values()])
    outcome = trainer.fit()
    if data.validation and trainer.scored_step != (outcome["best_step"] or trainer.state.global_step):
        trainer.score()
    if cast:
        undo_fast_modules(loaded.model)
        restore_weights(loaded.model, kept or _loaded_again(loaded, task, model_arguments))
    filters = trainer.whole.filtered.filters

    def write_files(folder: Path) -> None:
        save_filters(folder, filters, loaded.model)
        write_json(
            folder / BLOCK_SCORES_NAME, {"task": task.name, "metric": task.metric, "blocks": trainer.block_scores}
        )
        write_card(folder, "learn_filters", task, outcome, loaded.place, loaded.tokenizer)

    results = publish(trainer, outcome, loaded, "learn_filters", write_files)
    logger.warning(
        "%s of each block's filter head, and of the whole model:\n%s",
        task.metric, block_scores_table(trainer.block_scores, task.metric),
    )  # fmt: skip
    for warning in uninformed_heads(task, trainer.block_scores, data.validation, chosen_score(args)):
        logger.warning("%s", warning)
    return results


def _loaded_again(loaded: LoadedModel, task: Task, model_arguments: ModelArguments | None) -> PreTrainedModel:
    """The model loaded again, with its weights from before the cast. Raises `InputError` if they have changed."""
    again = load_model(loaded.place, task, model_arguments)
    if any(again.identity[part] != loaded.identity[part] for part in ("backbone", "head")):
        raise InputError(
            f"model_name_or_path: expected {loaded.name} as it was when its filters were learnt, got other weights; "
            "give a model that does not change meanwhile (on the Hub: --model_revision), and learn them again"
        )
    return again.model


def filter_trainer(
    loaded: LoadedModel,
    config: FilterConfig,
    task: Task,
    args: StageArguments,
    data: StageData,
    filter_arguments: LearnFiltersArguments | None = None,
) -> LearnFiltersTrainer:
    """The trainer of fresh filters and heads on a frozen model, which is cast to `frozen_dtype` in place.

    The model's outputs are kept for later epochs, of training and of validation rows, unless its dropout is on.
    """
    filter_arguments = filter_arguments or LearnFiltersArguments()
    token, frozen_dropout = filter_arguments.token(task), filter_arguments.frozen_dropout
    filters = Filters.random(config, initializer_range(loaded.model.config))
    heads = nn.ModuleList(task.filter_head(config.filter_output_dim, loaded.model) for _ in config.blocks)
    dtype = cast_frozen(loaded, args)
    learner = FilterLearner(loaded.with_filters(filters, task, token), heads, frozen_dropout)
    trainer = LearnFiltersTrainer(learner, args, task, loaded.tokenizer, data.train, data.validation)
    use_fast_modules(loaded.model, args, frozen=not frozen_dropout)
    if not frozen_dropout:
        pack_frozen(loaded, args)
        keep = partial(states_cache, args, task, loaded, config.blocks, dtype, token)
        learner.filtered.cache = keep(data.train)
        trainer.caches = {name: keep(split.features) for name, split in data.validation.items()}
    start = filter_arguments.start(config)
    if start == "identity":
        start_from(filters, identity_start(config))
    elif start == "scaled":
        # All tokens, also where the heads read the first alone: Stage II matches all of them.
        unfiltered = loaded.with_filters(Filters.identity(config.blocks), task).freeze().to(args.device)
        unfiltered.cache = learner.filtered.cache
        if token is not None:
            # The states of all tokens are kept only where Stage II will read them.
            shared = not frozen_dropout and args.cache_dir is not None
            keep = partial(states_cache, args, task, loaded, config.blocks, dtype, None)
            unfiltered.cache = keep(data.train) if shared else None
        batches = drawn_batches(task, args, loaded.tokenizer, data.train)
        start_from(filters, scaled_start(unfiltered, config, task, batches))
    return trainer
