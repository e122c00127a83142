"""What all stages do before and after their training: check, read the data, skip or resume, publish.

A stage is opened first, which checks everything and writes nothing. If the same stage has already finished, its results
are read; otherwise it is run.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, set_seed

from ..errors import InputError, collect, raise_if_any
from ..fast.states_cache import CACHE_NAME, ROW, StatesCache, open_cache, remove_caches
from ..identity import Identity, changes, class_fingerprint, fingerprint, plain, rows_fingerprint
from ..method.shapes import width
from ..models.load import INFERRED, LoadedModel, save_tokenizer
from ..models.students import STUDENT_NAME
from ..output import (
    RESULTS_NAME,
    SETTINGS_NAME,
    atomic_files,
    check_writable,
    command,
    explain_full_disk,
    finish_publication,
    gathered,
    has_scaffold,
    locked,
    locked_here,
    on_main,
    publication,
    read_manifest,
    read_sealed,
    refuse_busy,
    refuse_own_folder,
    remove_checkpoints,
    versions,
    write_json,
    write_sealed,
)
from ..progress import Display, busy, logged_into, showing
from ..tasks.base import TEST, Metrics, Split, Task
from ..tasks.reading.mapped import tokens_folder
from ..tasks.reading.notices import notice
from ..training.contradictions import text_of
from ..training.scores.best_score import chosen_score, score_problems, with_score
from ..training.scores.selection import outcome
from ..training.sharded.shares import check_batches
from ..training.shown.history import write_history
from ..training.speed import undo_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.stage_defaults import search_problems
from ..training.trainer import StageTrainer
from ..training.update_counts import check_updates, refuse_untrained, updates_of_epoch
from .rows.lost_text import cut_warnings, unknown_warnings
from .stage_identity import Results, check_folder, differences_of, refuse_foreign

logger = logging.getLogger(__name__)

TRIALS_NAME = "rate-search"
"""Folder of the trials of a search for the learning rate, inside the stage's."""
KEEPS = "keep_checkpoints"
"""Key of a manifest: whether the checkpoints stay."""


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
    title: str = "training"
    """What it is called while it works."""
    teacher: Metrics = field(default_factory=dict)
    """The teacher's scores on the rows that the stage is scored on, if they are known."""
    test: Callable[[Results], Results] = lambda results: results
    """Adds scores on the test rows to the results of the stage, if it is finished and they lack them."""

    def __post_init__(self) -> None:
        _refuse_different(plain(self.identity))
        self.finished = on_main(lambda: check_folder(Path(self.args.output_dir), self.identity))

    def result(self) -> Results:
        """The results of the stage: read if it has finished, otherwise computed by running it.

        Raises:
            InputError: another process is working in the folder, or its disk is too small.
            TrainingError: the training went wrong, or the disk is full.
        """
        folder = Path(self.args.output_dir)
        with showing(quiet=bool(self.args.disable_tqdm)) as display, display.show_stage(self.title):
            if self.finished is None:
                check_writable(folder)
                with locked(folder), explain_full_disk([folder, _cache_dir(self.args), tokens_folder()]):
                    self.finished = on_main(self._claim)
                    if self.finished is None:
                        self.finished = self._logged_run(display)
            else:
                tidy_finished(folder)
            return self.test(self.finished)

    def _logged_run(self, display: Display) -> Results:
        display.teacher = display.teacher or self.teacher
        with logged_into(Path(self.args.output_dir)):
            results = self.run()
            display.end_stage(results["seconds"], outcome(results, display.teacher))
        return results

    def _claim(self) -> Results | None:
        """Make the locked folder ready: nothing half done in it, the stage's settings recorded; the results if there
        are some by now.
        """
        folder = Path(self.args.output_dir)
        finish_publication(folder)
        # What was opened may have been finished since, by another process.
        found = check_folder(folder, self.identity)
        if found is not None:
            _remove_what_training_needed(folder)
        elif (before := read_sealed(folder / SETTINGS_NAME)) != plain(self._settings()):
            if before is not None and differences_of(before, plain(self.identity)):
                # Of a search with other settings, which had nothing else to lose.
                shutil.rmtree(folder / TRIALS_NAME, ignore_errors=True)
            with atomic_files(folder) as partial:
                write_sealed(partial / SETTINGS_NAME, self._settings())
        return found

    def _settings(self) -> dict[str, Any]:
        found = {"identity": plain(self.identity), "places": self.places, "versions": versions()}
        return found | {"global_batch": self.args.global_batch, "processes": self.args.world_size}


def _refuse_different(identity: Identity) -> None:
    """Refuse processes that have read other rows or models than the main one, such as old copies on another machine.

    Raises:
        InputError: says what is different.
    """
    if len(set(gathered(fingerprint(identity)))) == 1:
        return
    of_main = on_main(lambda: identity)
    for rank, different in enumerate(gathered(changes(of_main, identity))):
        if different:
            raise InputError(
                f"data and models: expected the same in all processes, got others in the one of rank {rank} than in "
                f"the main one: {'; '.join(different)}; copy the files of the main process to its machine"
            )


def prepare(
    task: Task,
    args: StageArguments,
    check: Callable[[], None] = lambda: None,
    models: Iterable[str | Path] = (),
) -> StageArguments:
    """Check everything that can be checked before a model is loaded, and set all random seeds.

    Args:
        check: the stage's own checks; raises `InputError`.
        models: folders or Hub ids of the models that go in.

    Returns:
        A copy of the arguments in which the best checkpoint is chosen by the task's metric, unless another was named.

    Raises:
        InputError: with all problems.
    """
    problems: list[str] = []
    folder = Path(args.output_dir)
    task.decides = chosen_score(with_score(args, task))  # what is said of the rows depends on it
    with collect(problems):
        check_writable(folder)
        refuse_busy(folder)
        refuse_own_folder(folder, models)
        if not (folder / SETTINGS_NAME).is_file():
            refuse_foreign(folder)
    with collect(problems):
        if args.cache_dir is not None and args.cache_limit:
            check_writable(Path(args.cache_dir), "cache_dir")
    with collect(problems):
        check()
    with collect(problems):
        check_batches(args)
    with collect(problems):
        _check_rows(task, args)
        problems += score_problems(args, task)
    raise_if_any(problems)
    if task.test_identity is not None and task.test_identity == task.identity["data"].get("validation"):
        logger.warning(
            "test rows: expected other ones than the validation rows, got the same; the choice depends on them"
        )
    set_seed(args.seed)
    return with_score(args, task)


def _check_rows(task: Task, args: StageArguments) -> None:
    """Refuse data that cannot be used for training.

    Raises:
        InputError: bad rows, no training rows, or nothing to score on.
    """
    rows = task.rows
    problems = []
    if "train" not in rows:
        problems.append("data: expected rows to train on, got none; give --train_file")
    if "validation" not in rows and args.load_best_model_at_end:
        problems.append("data: expected rows to score on, got none; give --validation_file, or set --eval_strategy no")
    if isinstance(rows.get("train"), IterableDataset):
        if args.max_steps <= 0:
            problems.append("max_steps: expected a number of steps, as the end of a stream is not known; set it")
        if text_of(args.save_strategy) == "epoch":
            logger.warning(
                "save_strategy: expected steps, as a stream may be one epoch, and nothing is saved before its end, got "
                "epoch; set eval_strategy and save_strategy to steps, and eval_steps and save_steps"
            )
    raise_if_any([*problems, *search_problems(args, rows)])


def read_data(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    args: StageArguments,
    teacher_tokenizer: PreTrainedTokenizerBase | None = None,
    more: Callable[[Dataset, PreTrainedTokenizerBase], Dataset] | None = None,
) -> StageData:
    """Tokenise every split; under `torchrun` the main process does it first and the others read its cache.

    Args:
        teacher_tokenizer: the teacher's, if it is another one.
        more: adds features to those of the training rows.
    """
    more = more or _nothing_more
    own = teacher_tokenizer is not None and teacher_tokenizer is not tokenizer
    with busy("tokenising"), args.main_process_first(desc="tokenising"):
        rows = dict(task.rows)
        of_teacher = None
        if teacher_tokenizer is not None and own:
            of_teacher = more(task.encode_training(rows["train"], teacher_tokenizer), teacher_tokenizer)
        train = more(task.encode_training(rows.pop("train"), tokenizer), tokenizer)
        splits = {name: Split(of_split, task.encode(of_split, tokenizer)) for name, of_split in rows.items()}
    test = {name: splits.pop(name) for name in (TEST,) if name in splits}
    if isinstance(train, IterableDataset):
        return StageData(train.shuffle(seed=args.seed, buffer_size=task.arguments.shuffle_buffer), splits, None, test)
    for sentence in (*cut_warnings(task, train, tokenizer), *unknown_warnings(train, tokenizer)):
        notice(sentence, task.sources)
    check_updates(args, len(train))
    train = train.add_column(ROW, np.arange(len(train)))
    logger.info("%s: %d training features, %s", task.name, len(train), {k: len(v.features) for k, v in splits.items()})
    return StageData(train, splits, of_teacher, test)


def _nothing_more(features: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    return features


# --- frozen models ---------------------------------------------------------------------------------------------


def keeps_states(args: StageArguments, task: Task, shared: bool, features: int | None = None) -> bool:
    """Whether to keep a frozen model's outputs: if they are needed twice, here or by stages that share the cache.

    Args:
        features: those of the training rows [unknown, and fewer than `max_steps` need].
    """
    if features is None or args.max_steps <= 0:
        repeats = args.max_steps > 0 or (args.num_train_epochs or 1) > 1
    else:
        repeats = args.max_steps > updates_of_epoch(args, features)
    keeps = task.can_cache and not task.augments() and not task.padding_counts
    return bool(args.cache_limit) and keeps and (shared or repeats)


def states_cache(
    args: StageArguments,
    task: Task,
    frozen: LoadedModel,
    blocks: Sequence[int],
    dtype: torch.dtype,
    filter_token: str | None,
    features: Dataset,
    relation_block: int | None = None,
) -> StatesCache | None:
    """The cache of a frozen model's outputs for features; None if they are not needed twice."""
    count = len(features) if isinstance(features, Sized) else None  # a stream has no end that is known
    if not keeps_states(args, task, args.cache_dir is not None, count):
        return None
    model, folder = _outputs_of(frozen, task, features), _cache_dir(args)
    # Queries, keys and values are as wide as states, or narrower.
    kept = len(blocks) + (0 if relation_block is None else 3)
    size = width(frozen.model.config) if kept else 0
    return open_cache(folder, args.cache_limit, model, features, kept, size, dtype, filter_token)


def _outputs_of(frozen: LoadedModel, task: Task, features: Dataset) -> str:
    """What a frozen model's outputs depend on besides tokens: with a task of one's own, its code and columns too."""
    code = class_fingerprint(type(task))
    if code is None:
        return fingerprint(frozen.identity)
    columns = [name for name in features.column_names if name not in task.label_columns]
    return fingerprint([frozen.identity, code, rows_fingerprint(features.select_columns(columns))])


def _cache_dir(args: StageArguments) -> Path:
    return Path(args.output_dir) / CACHE_NAME if args.cache_dir is None else Path(args.cache_dir)


# --- after ----------------------------------------------------------------------------------------------------


def publish(
    trainer: StageTrainer, scores: Results, loaded: LoadedModel, stage: str, write_files: Callable[[Path], None]
) -> Results:
    """Write the stage's folder (model, tokenizer, results, and the files of `write_files`), then remove checkpoints."""
    args = trainer.args
    refuse_untrained(trainer.state.global_step)
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
        folder = Path(args.output_dir)
        manifest: dict[str, Any] = {
            "stage": stage,
            "task": trainer.task.name,
            "command": command(),
            "ancestry": loaded.ancestry,
        }
        manifest |= {KEEPS: args.keep_checkpoints, INFERRED: trainer.task.inferred}
        with (
            busy("saving"),
            explain_full_disk([folder], trainer.disk_need),
            publication(folder, manifest, (SETTINGS_NAME,)) as partial,
        ):
            loaded.model.save_pretrained(partial)
            save_tokenizer(loaded.tokenizer, partial, trainer.task)
            write_files(partial)
            # The teacher's blocks that it was made of: the pairs follow from these.
            if (Path(loaded.name) / STUDENT_NAME).is_file():
                shutil.copy(Path(loaded.name) / STUDENT_NAME, partial / STUDENT_NAME)
            write_history(trainer.state, partial)
            write_json(partial / RESULTS_NAME, results)
        _remove_what_training_needed(folder)
    trainer.accelerator.wait_for_everyone()
    return results


def tidy_finished(folder: Path) -> None:
    """Delete what a kill left of the training of a finished stage; a folder that cannot be written stays as it is."""

    def tidy() -> None:
        left = any(next(folder.glob(names), None) for names in ("checkpoint-*", CACHE_NAME, TRIALS_NAME))
        if left or has_scaffold(folder):
            with suppress(OSError, InputError), locked_here(folder):
                finish_publication(folder)
                _remove_what_training_needed(folder)

    on_main(tidy)


def _remove_what_training_needed(folder: Path) -> None:
    """Delete the checkpoints of a finished stage, unless it was told to keep them, its search and its cache."""
    if not (read_manifest(folder) or {}).get(KEEPS):
        remove_checkpoints(folder)
    shutil.rmtree(folder / TRIALS_NAME, ignore_errors=True)
    remove_caches(folder / CACHE_NAME)
