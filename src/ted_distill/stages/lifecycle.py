"""What all stages do before and after their training: check, read the data, skip or resume, publish.

A stage is opened first, which checks everything and writes nothing; then its result is what a finished run of the same
stage left, or it is run.
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
from ..fast.precision import resolve_dtype
from ..fast.states_cache import ROW, StatesCache, open_cache
from ..identity import Identity, changes, fingerprint, plain
from ..models.load import LoadedModel
from ..models.students import STUDENT_NAME
from ..output import (
    MANIFEST_NAME,
    RESULTS_NAME,
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
from ..tasks.base import Split, Task
from ..training import evaluation
from ..training.speed import undo_fast_modules
from ..training.stage_arguments import StageArguments
from ..training.trainer import StageTrainer

logger = logging.getLogger(__name__)

Results = dict[str, Any]

# Arguments that do not change the weights that come out.
_WITHOUT_EFFECT = {
    "output_dir", "keep_checkpoints", "save_total_limit", "logging_dir", "logging_steps", "logging_strategy",
    "logging_first_step", "log_level", "log_level_replica", "log_on_each_node", "report_to", "run_name", "project",
    "disable_tqdm", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "per_device_eval_batch_size", "skip_memory_metrics", "logging_nan_inf_filter",
    "_n_gpu", "local_rank", "hub_token", "push_to_hub_token", "use_cpu", "ddp_backend", "ddp_timeout",
    "cache_limit", "cache_dir", "keep_freed_memory", "do_train", "do_eval", "do_predict", "resume_from_checkpoint",
    "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_always_push", "push_to_hub",
    "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id", "save_on_each_node", "debug",
    "eval_accumulation_steps", "eval_use_gather_object", "torch_empty_cache_steps", "remove_unused_columns",
}  # fmt: skip
_OF_FROZEN_MODELS = {"frozen_dtype", "packed_linear"}


class StageData(NamedTuple):
    """Features to train on, and rows and features of every validation split."""

    train: Dataset | IterableDataset
    validation: dict[str, Split]


# --- before ---------------------------------------------------------------------------------------------------


@dataclass
class OpenStage:
    """A stage whose input is checked and whose folder is known to be its own; nothing has been written yet."""

    name: str
    """Of the stage, for its manifest: `finetune`, `learn_filters`, or `distill` and the method."""
    args: StageArguments
    identity: Identity
    places: dict[str, str]
    """Where the models and the data were found, for people to read."""
    run: Callable[[], Results]
    """Trains and publishes."""

    def __post_init__(self) -> None:
        self.finished = check_folder(Path(self.args.output_dir), self.identity)

    def result(self) -> Results:
        """The results of the stage: those it left when it finished, or those of running it now."""
        if self.finished is not None:
            return self.finished
        folder = Path(self.args.output_dir)
        check_writable(folder)
        if self.args.should_save and read_json(folder / SETTINGS_NAME) != self._settings():
            with atomic_files(folder) as partial:
                write_json(partial / SETTINGS_NAME, self._settings())
        if checkpoint := last_checkpoint(folder):
            logger.warning("%s: resuming from %s", folder, checkpoint.name)
        return self.run()

    def _settings(self) -> dict[str, Any]:
        return {"identity": plain(self.identity), "places": self.places, "versions": versions()}


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
    folder = Path(args.output_dir)
    with collect(problems):
        check_writable(folder)
        if read_json(folder / SETTINGS_NAME) is None:
            refuse_foreign(folder)
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
        InputError: `metric_for_best_model` is not one of `names`.
    """
    name = str(args.metric_for_best_model or "loss").removeprefix("eval_")
    if args.load_best_model_at_end and name not in ("loss", *names):
        raise InputError(f"metric_for_best_model: expected one of {', '.join(names)}, got {name}")


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
        problems.append("max_steps: expected a number of steps, as the end of a stream is not known; set it")
    raise_if_any(problems)


def read_data(task: Task, tokenizer: PreTrainedTokenizerBase, args: StageArguments) -> StageData:
    """Tokenise every split; under `torchrun` the main process does it first and the others read its cache."""
    with args.main_process_first(desc="tokenising"):
        rows = dict(task.rows)
        train = task.encode_training(rows.pop("train"), tokenizer)
        splits = {name: Split(of_split, task.encode(of_split, tokenizer)) for name, of_split in rows.items()}
    if isinstance(train, IterableDataset):
        return StageData(train.shuffle(seed=args.seed, buffer_size=task.arguments.shuffle_buffer), splits)
    train = train.add_column(ROW, np.arange(len(train)))
    logger.info("%s: %d training features, %s", task.name, len(train), {k: len(v.features) for k, v in splits.items()})
    return StageData(train, splits)


# --- is it the same -------------------------------------------------------------------------------------------


def stage_identity(
    stage: str, task: Task, args: StageArguments, models: dict[str, LoadedModel] | None = None, **own: Any
) -> Identity:
    """Everything that decides what comes out of a stage: what goes in, by content, and the arguments.

    Args:
        models: those that go in, by role; None leaves them out, to compare the rest before they are there.
        own: what else decides, such as the method.
    """
    without = _WITHOUT_EFFECT | (_OF_FROZEN_MODELS if stage == "finetune" else set())
    arguments = {key: str(value) for key, value in args.to_dict().items() if key not in without}
    if "frozen_dtype" in arguments:
        arguments["frozen_dtype"] = str(resolve_dtype(args.frozen_dtype, args.device, args.fp16))
    found = {"stage": stage, **task.identity, **own, "arguments": arguments, "processes": args.world_size}
    return found | {name: loaded.identity for name, loaded in (models or {}).items()}


def places(task: Task, models: dict[str, LoadedModel]) -> dict[str, str]:
    """Where the input of a stage was found. Nothing is compared with it: folders move and files are renamed."""
    named = {name: getattr(task.arguments, name) for name in ("train_file", "validation_file", "dataset_name")}
    given = {name: str(where) for name, where in named.items() if where}
    hub = task.hub_dataset()
    given = given or ({"dataset_name": hub[0]} if hub else {})
    return given | {role: loaded.name for role, loaded in models.items()}


def check_folder(folder: Path, wanted: Identity) -> Results | None:
    """Whether a folder is this stage's: writes nothing.

    Args:
        wanted: the stage's identity, or a part of it that is to be compared.

    Returns:
        The results, if this stage is finished there; None if it is to be run or resumed.

    Raises:
        InputError: the folder holds something else.
    """
    found, manifest = read_json(folder / SETTINGS_NAME), read_json(folder / MANIFEST_NAME)
    if not isinstance(found, dict) or not isinstance(found.get("identity"), dict):
        refuse_foreign(folder)
        return None
    compared = {key: value for key, value in found["identity"].items() if key in wanted}
    differences = changes(compared, wanted, same_versions=found.get("versions") == versions())
    # A stage that stopped before its first checkpoint left nothing to lose.
    if differences and (manifest is not None or last_checkpoint(folder)):
        state = "a finished stage" if manifest is not None else "an interrupted stage"
        raise InputError(
            f"output_dir: expected {folder} to be free or to hold this stage, got {state} that differs: "
            f"{'; '.join(differences)}; go back to what it was, delete the folder, or give another output_dir"
        )
    return read_json(folder / RESULTS_NAME) if manifest is not None and not differences else None


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that nothing of ours explains: they would be overwritten or deleted.

    Raises:
        InputError: names some of them.
    """
    held = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    held = [name for name in held if not name.startswith(".partial-")]
    if held:
        some = ", ".join(held[:3]) + (", ..." if len(held) > 3 else "")
        raise InputError(
            f"output_dir: expected a new or empty folder, or one of the same stage, got {folder}, which holds {some}; "
            "give another output_dir"
        )


# --- frozen models ---------------------------------------------------------------------------------------------


def keeps_states(args: StageArguments, task: Task, shared: bool) -> bool:
    """Whether a frozen model's outputs are kept: where they are needed twice, here or by stages that share a cache."""
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
    """Where a frozen model's outputs for features are kept; None where they are not needed twice."""
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
    """Write the stage's folder: model, tokenizer, results, what `write_files` adds; then remove the checkpoints."""
    args = trainer.args
    undo_fast_modules(loaded.model)
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
        manifest = {"stage": stage, "task": trainer.task.name, "command": command(), "ancestry": loaded.ancestry}
        write_stage(folder, write, results, manifest)
        if not args.keep_checkpoints:
            remove_checkpoints(folder)
        if args.cache_dir is None:
            shutil.rmtree(_cache_dir(args), ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return results
