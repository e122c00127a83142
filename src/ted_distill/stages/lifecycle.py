"""What all stages do before and after their training: check, read the data, skip or resume, publish.

A stage is opened first, which checks everything and writes nothing. If the same stage has already finished, its results
are read; otherwise it is run.
"""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, set_seed

from ..errors import InputError, collect, raise_if_any
from ..fast.states_cache import ROW, StatesCache, open_cache
from ..identity import Identity, fingerprint, plain
from ..models.load import LoadedModel
from ..models.students import STUDENT_NAME
from ..output import (
    SETTINGS_NAME,
    atomic_files,
    check_writable,
    command,
    last_checkpoint,
    read_json,
    remove_checkpoints,
    versions,
    write_json,
    write_stage,
)
from ..tasks.base import TEST, Split, Task
from ..training import evaluation
from ..training.shares import check_batches
from ..training.speed import undo_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.trainer import StageTrainer
from .stage_identity import Results, check_folder, refuse_foreign

logger = logging.getLogger(__name__)


class StageData(NamedTuple):
    """Features to train on, and rows and features of every split to choose by and of the one to test on."""

    train: Dataset | IterableDataset
    validation: dict[str, Split]
    of_teacher: Dataset | None = None
    """The training rows as the teacher's own tokenizer makes them, if it does not share the student's."""
    test: dict[str, Split] = {}


# --- before ---------------------------------------------------------------------------------------------------


@dataclass
class OpenStage:
    """A stage whose input and folder have been checked; nothing has been written yet."""

    args: StageArguments
    identity: Identity
    places: dict[str, str]
    """Where the models and the data were found, for people to read."""
    run: Callable[[], Results]
    """Trains and publishes."""
    test: Callable[[Results], Results] = lambda results: results
    """Adds scores on the test rows to the results of the stage, if it is finished and they lack them."""

    def __post_init__(self) -> None:
        self.finished = check_folder(Path(self.args.output_dir), self.identity)

    def result(self) -> Results:
        """The results of the stage: read if it has finished, otherwise computed by running it."""
        if self.finished is not None:
            return self.test(self.finished)
        folder = Path(self.args.output_dir)
        check_writable(folder)
        if self.args.should_save and read_json(folder / SETTINGS_NAME) != self._settings():
            with atomic_files(folder) as partial:
                write_json(partial / SETTINGS_NAME, self._settings())
        if checkpoint := last_checkpoint(folder):
            logger.warning("%s: resuming from %s", folder, checkpoint.name)
        return self.run()

    def _settings(self) -> dict[str, Any]:
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        found = {"identity": plain(self.identity), "places": self.places, "versions": versions()}
        return found | {"global_batch": batch, "processes": self.args.world_size}


def prepare(task: Task, args: StageArguments, check: Callable[[], None] = lambda: None) -> StageArguments:
    """Check everything that can be checked before a model is loaded, and set all random seeds.

    Args:
        check: the stage's own checks; raises `InputError`.

    Returns:
        A copy of the arguments in which the best checkpoint is chosen by the task's metric, unless another was named.

    Raises:
        InputError: with all problems.
    """
    problems: list[str] = []
    folder = Path(args.output_dir)
    with collect(problems):
        check_writable(folder)
        if read_json(folder / SETTINGS_NAME) is None:
            refuse_foreign(folder)
    with collect(problems):
        check()
    with collect(problems):
        check_batches(args)
    with collect(problems):
        _check_rows(task, args)
        _check_metric(args, _score_names(task))
    raise_if_any(problems)
    args = copy.copy(args)
    if args.metric_for_best_model in (None, "loss"):
        args.metric_for_best_model = task.metric
    args.greater_is_better = not args.metric_for_best_model.endswith(task.lower_is_better)
    set_seed(args.seed)
    return args


def _score_names(task: Task) -> list[str]:
    """Names of all scores of the task; those of a second validation split have its prefix."""
    splits = [name for name in task.rows if name not in ("train", TEST)]
    return [evaluation.prefixed(split, name) for split in splits for name in task.score_names]


def _check_metric(args: StageArguments, names: Sequence[str]) -> None:
    """Refuse to choose the best checkpoint by a score that does not exist.

    Raises:
        InputError: `metric_for_best_model` is not one of `names`.
    """
    name = str(args.metric_for_best_model or "loss").removeprefix("eval_")
    if args.load_best_model_at_end and name not in ("loss", *names):
        raise InputError(f"metric_for_best_model: expected one of {', '.join(names)}, got {name}")


def _check_rows(task: Task, args: StageArguments) -> None:
    """Refuse data that cannot be used for training.

    Raises:
        InputError: bad rows, no training rows, or nothing to score on.
    """
    rows = task.rows
    problems = []
    if "train" not in rows:
        problems.append("data: nothing to train on; give --train_file")
    if "validation" not in rows and args.load_best_model_at_end:
        problems.append("data: nothing to score on; give --validation_file, or set --eval_strategy no")
    if isinstance(rows.get("train"), IterableDataset) and args.max_steps <= 0:
        problems.append("max_steps: expected a number of steps, as the end of a stream is not known; set it")
    raise_if_any(problems)


def read_data(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    args: StageArguments,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
) -> StageData:
    """Tokenise every split; under `torchrun` the main process does it first and the others read its cache.

    Args:
        teacher_tokenizer: the teacher's, if it is another one.
    """
    own = teacher_tokenizer is not None and teacher_tokenizer is not tokenizer
    with args.main_process_first(desc="tokenising"):
        rows = dict(task.rows)
        of_teacher = task.encode_training(rows["train"], teacher_tokenizer) if own else None
        train = task.encode_training(rows.pop("train"), tokenizer)
        splits = {name: Split(of_split, task.encode(of_split, tokenizer)) for name, of_split in rows.items()}
    test = {name: splits.pop(name) for name in (TEST,) if name in splits}
    if isinstance(train, IterableDataset):
        return StageData(train.shuffle(seed=args.seed, buffer_size=task.arguments.shuffle_buffer), splits, None, test)
    train = train.add_column(ROW, np.arange(len(train)))
    logger.info("%s: %d training features, %s", task.name, len(train), {k: len(v.features) for k, v in splits.items()})
    return StageData(train, splits, of_teacher, test)


# --- frozen models ---------------------------------------------------------------------------------------------


def keeps_states(args: StageArguments, task: Task, shared: bool) -> bool:
    """Whether to keep a frozen model's outputs: if they are needed twice, here or by stages that share the cache."""
    repeats = args.max_steps > 0 or args.num_train_epochs > 1 or shared
    return bool(args.cache_limit) and task.can_cache and not task.padding_counts and repeats


def states_cache(
    args: StageArguments,
    task: Task,
    frozen: LoadedModel,
    blocks: Sequence[int],
    dtype: torch.dtype,
    first_token_only: bool,
    features: Dataset,
) -> StatesCache | None:
    """The cache of a frozen model's outputs for features; None if they are not needed twice."""
    if not keeps_states(args, task, shared=args.cache_dir is not None):
        return None
    model, folder, width = fingerprint(frozen.identity), _cache_dir(args), frozen.model.config.hidden_size
    return open_cache(folder, args.cache_limit, model, features, len(blocks), width, dtype, first_token_only)


def _cache_dir(args: StageArguments) -> Path:
    return Path(args.output_dir) / "cache" if args.cache_dir is None else Path(args.cache_dir)


# --- after ----------------------------------------------------------------------------------------------------


def publish(
    trainer: StageTrainer, scores: Results, loaded: LoadedModel, stage: str, write_files: Callable[[Path], None]
) -> Results:
    """Write the stage's folder (model, tokenizer, results, and the files of `write_files`), then remove checkpoints."""
    args = trainer.args
    undo_fast_modules(loaded.model)
    results = {
        **scores,
        "metric": trainer.task.metric,
        "parameters": loaded.model.num_parameters(),
        "seconds": round(trainer.seconds, 1),
        "steps": trainer.state.global_step,
        "train_features": None if isinstance(trainer.train_dataset, IterableDataset) else len(trainer.train_dataset),
    }
    if args.should_save:

        def write(folder: Path) -> None:
            loaded.model.save_pretrained(folder)
            loaded.tokenizer.save_pretrained(folder)
            write_files(folder)
            # The teacher's blocks that it was made of: the pairs follow from these.
            if (Path(loaded.name) / STUDENT_NAME).is_file():
                shutil.copy(Path(loaded.name) / STUDENT_NAME, folder / STUDENT_NAME)

        folder = Path(args.output_dir)
        manifest = {"stage": stage, "task": trainer.task.name, "command": command(), "ancestry": loaded.ancestry}
        write_stage(folder, write, results, manifest)
        if not args.keep_checkpoints:
            remove_checkpoints(folder)
        if args.cache_dir is None:
            shutil.rmtree(_cache_dir(args), ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return results
