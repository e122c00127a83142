"""Fine-tune one model on the task: what comes before Stage I."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from ..entries import entry
from ..method.filters import Batch
from ..models.given import Model, as_name
from ..models.load import LoadedModel, ModelArguments, load_model, read_weights
from ..progress import remembering
from ..tasks.base import Counts, Task
from ..training.fitting_memory import check_recomputing
from ..training.new_heads import start_at_the_mean
from ..training.scores.best_score import chosen_score
from ..training.shown.model_card import write_card
from ..training.speed import freeze_unseen_rows, use_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.stage_defaults import FINETUNE
from ..training.trainer import StageTrainer
from .autocast import with_fitting_autocast
from .lifecycle import OpenStage, StageData, prepare, publish, read_data
from .rate_search import Held, run_with_rate
from .retest import with_test_scores
from .stage_identity import Results, places, stage_identity
from .uninformed import uninformed_model

logger = logging.getLogger(__name__)


class FinetuneTrainer(StageTrainer):
    """Trains a `FilteredModel` without filters on the task's own loss."""

    def loss_terms(self, model: nn.Module, batch: Batch, counts: Counts) -> dict[str, Tensor]:
        """Only the prediction loss."""
        return {"loss": self.task.loss(model(batch).logits, batch, counts.labels)}

    def save_weights(self, folder: Path) -> None:
        """Write a plain checkpoint."""
        self.whole.model.save_pretrained(folder)

    def load_weights(self, folder: Path) -> None:
        """Read a plain checkpoint of the same model."""
        read_weights(self.whole.model, folder)


@entry
@remembering()
def finetune(
    model_name_or_path: Model, task: Task, args: StageArguments, model_arguments: ModelArguments | None = None
) -> Results:
    """Fine-tune a model and leave the best checkpoint in `args.output_dir`.

    Args:
        model_name_or_path: folder, Hub id or (model, tokenizer); a head for the task's labels is made if it has none.
        args: `output_dir`, learning rate, epochs, ...

    Returns:
        Scores in percent, parameters, seconds and steps: the contents of `all_results.json`.

    Raises:
        InputError: before any training, with all problems.
        TrainingError: the loss is no longer a number.
    """
    return open_finetune(as_name(model_name_or_path), task, args, model_arguments).result()


def open_finetune(
    model_name_or_path: str | Path, task: Task, args: StageArguments, model_arguments: ModelArguments | None = None
) -> OpenStage:
    """`finetune` up to its first write: checks arguments, data, model and folder. Raises `InputError`."""
    args = prepare(task, args, models=[model_name_or_path])
    held = Held(partial(_load, model_name_or_path, task, args, model_arguments), args.seed)
    loaded = held.get()
    models, config = {"model": loaded}, loaded.model.config
    args = with_fitting_autocast(FINETUNE.fill(args, config), loaded, task)
    identity = stage_identity("finetune", task, args, models)

    def open_trial(task: Task, args: StageArguments) -> OpenStage:
        return open_finetune(model_name_or_path, task, args, model_arguments)

    return OpenStage(
        args, identity, places(task, models), title="finetune",
        run=lambda: run_with_rate(held, partial(_run, task), open_trial, task, args, FINETUNE.rate_of(config)),
        test=lambda results: with_test_scores(results, task, args, model_arguments),
    )  # fmt: skip


def _load(name: str | Path, task: Task, args: StageArguments, model_arguments: ModelArguments | None) -> LoadedModel:
    loaded = load_model(name, task, model_arguments, new_head=True)
    check_recomputing(loaded.model, args)
    return loaded


def _run(task: Task, loaded: LoadedModel, args: StageArguments, found: Results) -> Results:
    loaded.identity  # noqa: B018  (of the weights before they are trained: it is kept)
    trainer = finetune_trainer(loaded, task, args, read_data(task, loaded.tokenizer, args))
    trainer.check_room(trainer.checkpoint_bytes)
    outcome = trainer.fit()

    def write_files(folder: Path) -> None:
        write_card(folder, "finetune", task, outcome, loaded.place, loaded.tokenizer)

    results = publish(trainer, outcome | found, loaded, "finetune", write_files)
    for warning in uninformed_model(task, results, trainer.validation, chosen_score(args)):
        logger.warning("%s: %s", args.output_dir, warning)
    return results


def finetune_trainer(loaded: LoadedModel, task: Task, args: StageArguments, data: StageData) -> FinetuneTrainer:
    """The trainer of a whole model."""
    start_at_the_mean(loaded.model, loaded.fresh, task)
    use_fast_modules(loaded.model, args)
    freeze_unseen_rows(loaded.model, args, task, data.train, loaded.tokenizer.pad_token_id)
    return FinetuneTrainer(loaded.as_module(task), args, task, loaded.tokenizer, data.train, data.validation, data.test)
