"""What all stages do before and after their training: check, read the data, resume or skip, publish."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase, set_seed

from ..errors import InputError, collect, raise_if_any
from ..fast.states_cache import FEATURE, StatesCache, open_cache
from ..models.load import LoadedModel
from ..models.students import STUDENT_NAME
from ..output import (
    MANIFEST_NAME,
    RESULTS_NAME,
    check_writable,
    command,
    last_checkpoint,
    read_json,
    remove_checkpoints,
    whole_files,
    write_json,
    write_stage,
)
from ..tasks.base import Split, Task
from ..training import evaluation
from ..training.speed import make_plain
from ..training.stage_arguments import StageArguments
from ..training.trainer import StageTrainer

logger = logging.getLogger(__name__)

SETTINGS_NAME = "settings.json"
Results = dict[str, Any]

# Arguments that do not change the weights that come out.
_WITHOUT_EFFECT = {
    "output_dir", "keep_checkpoints", "save_total_limit", "logging_dir", "logging_steps", "logging_strategy",
    "logging_first_step", "log_level", "log_level_replica", "log_on_each_node", "report_to", "run_name", "project",
    "disable_tqdm", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "per_device_eval_batch_size", "skip_memory_metrics", "logging_nan_inf_filter",
    "_n_gpu", "local_rank", "hub_token", "push_to_hub_token", "use_cpu", "ddp_backend", "ddp_timeout",
    "cache_limit", "cache_dir", "keep_freed_memory",
}  # fmt: skip
_FOLDERS = {"model", "teacher", "student"}


class StageData(NamedTuple):
    """Features to train on, and rows and features of every validation split."""

    train: Dataset | IterableDataset
    validation: dict[str, Split]


# --- before ---------------------------------------------------------------------------------------------------


def prepare(task: Task, args: StageArguments, check: Callable[[], None] = lambda: None) -> StageArguments:
    """Check what can be checked before a model is loaded, and seed everything random.

    Args:
        check: what else the stage wants checked; raises `InputError`.

    Returns:
        A copy of the arguments in which the task's own metric decides, unless another was named.

    Raises:
        InputError: with all problems.
    """
    problems: list[str] = []
    with collect(problems):
        check_writable(Path(args.output_dir))
    with collect(problems):
        check()
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
    """Names of all scores of the task, those of a second validation split with its prefix."""
    splits = [name for name in task.rows if name != "train"]
    return [evaluation.prefixed(split, name) for split in splits for name in task.score_names]


def _check_metric(args: StageArguments, names: Sequence[str]) -> None:
    """Refuse to choose the best checkpoint by a score there will not be.

    Raises:
        InputError: `metric_for_best_model` is none of `names`.
    """
    name = str(args.metric_for_best_model or "loss").removeprefix("eval_")
    if args.load_best_model_at_end and name not in ("loss", *names):
        raise InputError(f"metric_for_best_model: one of {', '.join(names)} was expected, {name} came")


def _check_rows(task: Task, args: StageArguments) -> None:
    """Refuse data a training cannot use.

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
        problems.append("max_steps: a number of steps was expected, as a stream has no end that is known; set it")
    raise_if_any(problems)


def read_data(task: Task, tokenizer: PreTrainedTokenizerBase, args: StageArguments) -> StageData:
    """Tokenise every split; under `torchrun` the main process does it first and the others read its cache."""
    with args.main_process_first(desc="tokenising"):
        rows = dict(task.rows)
        train = task.encode_training(rows.pop("train"), tokenizer)
        splits = {name: Split(of_split, task.encode(of_split, tokenizer)) for name, of_split in rows.items()}
    if isinstance(train, IterableDataset):
        return StageData(train.shuffle(seed=args.seed, buffer_size=task.arguments.shuffle_buffer), splits)
    train = train.add_column(FEATURE, np.arange(len(train)))
    logger.info("%s: %d training features, %s", task.name, len(train), {k: len(v.features) for k, v in splits.items()})
    return StageData(train, splits)


def settings(
    stage: str, task: Task, args: StageArguments, models: dict[str, LoadedModel], **own: Any
) -> dict[str, Any]:
    """Everything that decides what comes out of a stage, as plain JSON values."""
    return {
        "stage": stage,
        **{name: loaded.name for name, loaded in models.items()},
        **{f"{name} weights": loaded.weights_sha256[:16] for name, loaded in models.items()},
        **{f"{name} config_overrides": loaded.config_overrides for name, loaded in models.items()},
        **dataclasses.asdict(task.arguments),
        "rows": task.row_counts,
        **{key: str(value) for key, value in args.to_dict().items() if key not in _WITHOUT_EFFECT},
        **own,
    }


def begin(args: StageArguments, wanted: dict[str, Any]) -> Results | None:
    """Record the stage's settings in its folder.

    Returns:
        The results, if a stage with these settings is finished there; None if it is to be run or to go on.

    Raises:
        InputError: the folder holds a stage with other settings. Nothing of it is touched.
    """
    folder = Path(args.output_dir)
    found = read_json(folder / SETTINGS_NAME)
    # Through JSON and back, as what was written went: a tuple comes back as a list.
    wanted = json.loads(json.dumps(wanted))
    manifest, checkpoint = read_json(folder / MANIFEST_NAME), last_checkpoint(folder)
    changed = _changes(found, wanted) if found is not None else []
    # A stage that stopped before its first checkpoint left nothing to lose.
    if changed and (manifest is not None or checkpoint):
        state = "a finished stage" if (folder / MANIFEST_NAME).exists() else "a stage that was interrupted"
        raise InputError(
            f"output_dir: {folder} holds {state} with other settings: {'; '.join(changed)}; "
            "go back to those, delete the folder, or give another output_dir"
        )
    if manifest is not None:
        return read_json(folder / RESULTS_NAME)
    if (found is None or changed) and args.should_save:
        with whole_files(folder) as partial:
            write_json(partial / SETTINGS_NAME, wanted)
    if checkpoint:
        logger.warning("%s: going on from %s", folder, checkpoint.name)
    return None


def _changes(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Settings that differ. Not those that one side lacks, as another version of transformers has other arguments,
    nor the models' folders, which may have moved: their weights tell whether they are the same."""
    keys = [key for key in wanted if key in found and key not in _FOLDERS and found[key] != wanted[key]]
    return [f"{key} was {found[key]}, now {wanted[key]}" for key in keys]


# --- frozen models ---------------------------------------------------------------------------------------------


def keeps_states(args: StageArguments, task: Task, shared: bool) -> bool:
    """Whether what a frozen model says is kept: where it would be asked twice, here or by stages that share a cache."""
    repeats = args.max_steps > 0 or args.num_train_epochs > 1 or shared
    return bool(args.cache_limit) and task.cacheable and not task.padding_counts and repeats


def states_cache(
    args: StageArguments,
    task: Task,
    frozen: LoadedModel,
    blocks: Sequence[int],
    dtype: torch.dtype,
    first_token_only: bool,
    features: Dataset,
) -> StatesCache | None:
    """Where what a frozen model says about features is kept; None where it would not be asked twice."""
    if not keeps_states(args, task, shared=args.cache_dir is not None):
        return None
    identity = f"{frozen.weights_sha256} {frozen.label_order} {frozen.input_names}"
    folder, width = _cache_dir(args), frozen.model.config.hidden_size
    return open_cache(folder, args.cache_limit, identity, features, len(blocks), width, dtype, first_token_only)


def _cache_dir(args: StageArguments) -> Path:
    return Path(args.output_dir) / "cache" if args.cache_dir is None else Path(args.cache_dir)


# --- after ----------------------------------------------------------------------------------------------------


def finish(
    trainer: StageTrainer, scores: Results, loaded: LoadedModel, stage: str, write_files: Callable[[Path], None]
) -> Results:
    """Publish the stage's folder: model, tokenizer, results, what `write_files` adds; then remove the checkpoints."""
    args = trainer.args
    make_plain(loaded.model)
    results = {
        **scores,
        "metric": trainer.task.metric,
        "parameters": loaded.model.num_parameters(),
        "seconds": round(trainer.seconds, 1),
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "train_features": None if isinstance(trainer.train_dataset, IterableDataset) else len(trainer.train_dataset),
    }
    if args.should_save:

        def write(folder: Path) -> None:
            loaded.model.save_pretrained(folder)
            loaded.tokenizer.save_pretrained(folder)
            write_files(folder)
            # Which of its teacher's blocks it was made of: pairs follow from that.
            if (Path(loaded.name) / STUDENT_NAME).is_file():
                shutil.copy(Path(loaded.name) / STUDENT_NAME, folder / STUDENT_NAME)

        folder = Path(args.output_dir)
        write_stage(folder, write, results, {"stage": stage, "task": trainer.task.name, "command": command()})
        if not args.keep_checkpoints:
            remove_checkpoints(folder)
        if args.cache_dir is None:
            shutil.rmtree(_cache_dir(args), ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return results
