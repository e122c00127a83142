"""What a stage depends on, and whether a folder holds that stage."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..fast.precision import resolve_dtype
from ..identity import Identity, changes, fingerprint
from ..models.load import LoadedModel
from ..output import (
    MANIFEST_NAME,
    RESULTS_NAME,
    SETTINGS_NAME,
    DamagedFileError,
    foreign_names,
    is_half_published,
    last_checkpoint,
    published_damage,
    read_json,
    read_manifest,
    read_sealed,
    short_name,
    versions,
)
from ..tasks.base import Task
from ..training.stage_arguments import StageArguments
from ..wording import and_list, listed

Results = dict[str, Any]

WITHOUT_EFFECT = {
    "output_dir", "keep_checkpoints", "save_total_limit", "logging_dir", "logging_steps", "logging_strategy",
    "logging_first_step", "log_level", "log_level_replica", "log_on_each_node", "report_to", "run_name", "project",
    "disable_tqdm", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
    "dataloader_prefetch_factor", "per_device_eval_batch_size", "skip_memory_metrics", "logging_nan_inf_filter",
    "_n_gpu", "local_rank", "hub_token", "push_to_hub_token", "use_cpu", "ddp_backend", "ddp_timeout",
    "cache_limit", "cache_dir", "keep_freed_memory", "do_train", "do_eval", "do_predict", "resume_from_checkpoint",
    "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_always_push", "push_to_hub",
    "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id", "save_on_each_node", "debug",
    "eval_accumulation_steps", "eval_use_gather_object", "torch_empty_cache_steps", "remove_unused_columns",
    "fsdp", "fsdp_config", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_find_unused_parameters",
    "ddp_static_graph", "dataloader_multiprocessing_context", "save_only_model", "include_num_input_tokens_seen",
    "include_for_metrics", "eval_do_concat_batches", "restore_callback_states_from_checkpoint",
    # The losses of the stages count the labels of all processes by themselves.
    "average_tokens_across_devices",
    # Activations that are computed again are the same, with the random numbers of dropout put back. Not so under every
    # `activation_checkpointing_kwargs`: there may be none put back, or no gradients for frozen inputs.
    "activation_checkpointing", "gradient_checkpointing",
}  # fmt: skip
"""Arguments that do not change the resulting weights."""
_DIVISION = ("per_device_train_batch_size", "gradient_accumulation_steps")
_OF_FROZEN_MODELS = {"frozen_dtype", "packed_linear"}

_OF_FOLDER = re.compile(r"(output_dir: expected )(.+?)( to be free.+)", re.DOTALL)


def stage_identity(
    stage: str, task: Task, args: StageArguments, models: dict[str, LoadedModel] | None = None, **own: Any
) -> Identity:
    """Everything that affects the result of a stage: its inputs, by content, and its arguments.

    Args:
        models: the input models, by role; None leaves them out, to compare the rest before they exist.
        own: anything else that affects the result, such as the method.
    """
    without = WITHOUT_EFFECT | (_OF_FROZEN_MODELS if stage == "finetune" else set())
    arguments = {key: str(value) for key, value in args.to_dict().items() if key not in without}
    if "frozen_dtype" in arguments:
        arguments["frozen_dtype"] = str(resolve_dtype(args.frozen_dtype, args.device, args.fp16))
    if "deepspeed" in arguments:
        arguments["deepspeed"] = str(deepspeed_content(args.deepspeed))
    found = {"stage": stage, **task.identity, **own, "arguments": arguments, "processes": args.world_size}
    return found | {name: loaded.identity for name, loaded in (models or {}).items()}


def deepspeed_content(config: Any) -> Any:
    """DeepSpeed's config as it is compared: what a file holds, wherever it is; anything else as it is given."""
    if not isinstance(config, (str, Path)):
        return config
    content = read_json(Path(config).expanduser())
    return config if content is None else fingerprint(content)


def places(task: Task, models: dict[str, LoadedModel]) -> dict[str, str]:
    """Names of the input of a stage, for people. They are never compared: folders may be moved and files renamed."""
    named = {
        name: getattr(task.arguments, name)
        for name in ("train_file", "validation_file", "test_file", "unlabelled_file", "dataset_name")
    }
    given = {name: str(where) for name, where in named.items() if where}
    hub = task.hub_dataset()
    given = given or ({"dataset_name": hub[0]} if hub else {})
    found = {what: short_name(name) for what, name in given.items()}
    return found | {role: short_name(of.name) if of.commit is None else of.place for role, of in models.items()}


def check_folder(folder: Path, wanted: Identity) -> Results | None:
    """Check that a folder belongs to this stage; writes nothing.

    Args:
        wanted: the stage's identity, or the part of it to compare.

    Returns:
        The results, if this stage is finished there; None if it must be run or resumed.

    Raises:
        InputError: the folder holds something else, or a file of the finished stage is damaged.
    """
    if not (folder / SETTINGS_NAME).is_file():
        refuse_foreign(folder)
        return None
    found, manifest = _settings_and_manifest(folder)
    differences = differences_of(found, wanted)
    # A stage that stopped before its first checkpoint has nothing to lose.
    if differences and (manifest is not None or last_checkpoint(folder)):
        state = "a finished stage" if manifest is not None else "an interrupted stage"
        raise InputError(
            f"output_dir: expected {folder} to be free or to hold this stage, got {state} that differs: "
            f"{'; '.join(differences)}; go back to what it was, delete the folder, or give another output_dir"
        )
    if manifest is None:
        return None
    if damage := published_damage(folder, manifest):
        raise _damaged(folder, damage)
    return read_json(folder / RESULTS_NAME)


def said_together(problems: Iterable[str]) -> list[str]:
    """Problems of folders, as `check_folder` has them, with one line for all that have the same."""
    folders: dict[tuple[str, ...], list[str]] = {}
    for problem in dict.fromkeys(problems):
        parts = _OF_FOLDER.fullmatch(problem)
        folders.setdefault((parts[1], parts[3]) if parts else (problem,), []).extend([parts[2]] if parts else [])
    return [
        key[0] if not found else f"{key[0]}{f'each of {and_list(found)}' if found[1:] else found[0]}{key[1]}"
        for key, found in folders.items()
    ]


def differences_of(settings: Mapping[str, Any], wanted: Identity) -> list[str]:
    """How a folder's recorded identity differs from `wanted`; keys that `wanted` lacks are not compared."""
    compared = {key: value for key, value in settings["identity"].items() if key in wanted}
    if isinstance(arguments := compared.get("arguments"), dict):
        compared["arguments"] = {key: value for key, value in arguments.items() if key in wanted["arguments"]}
    compared = _divided_alike(compared, wanted)
    return changes(compared, wanted, same_versions=settings.get("versions") == versions())


def _divided_alike(found: Identity, wanted: Identity) -> Identity:
    """The same identity with its global batch divided into processes and batches as `wanted` divides its own, if both
    have as many rows: then every update is the same rows.
    """
    both = found, wanted
    if any(identity.get("arguments", {}).get("dataloader_drop_last") != "False" for identity in both):
        return found  # the rows that are left out are those of a batch that is not full
    sizes = {_global_batch(identity) for identity in both}
    if len(sizes) > 1 or None in sizes:
        return found
    arguments = {name: wanted["arguments"][name] for name in _DIVISION}
    return {**found, "processes": wanted["processes"], "arguments": {**found["arguments"], **arguments}}


def _global_batch(identity: Identity) -> int | None:
    """Rows of an update; None if an identity does not say."""
    try:
        return int(identity["processes"]) * math.prod(int(identity["arguments"][name]) for name in _DIVISION)
    except (KeyError, TypeError, ValueError):
        return None


def _settings_and_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What was recorded when the stage started, and when it was finished (None before that).

    Raises:
        InputError: one of the two is damaged, or was written by something else.
    """
    try:
        found = read_sealed(folder / SETTINGS_NAME) or {}
    except DamagedFileError as error:
        known = read_json(folder / SETTINGS_NAME)
        # Those of version 0.1.0 and of other programs are no identity.
        if isinstance(known, dict) and "identity" not in known and "sha256" not in known:
            refuse_foreign(folder)
        raise _damaged(folder, f"a damaged {SETTINGS_NAME}") from error
    if not isinstance(found.get("identity"), dict):
        refuse_foreign(folder)
    try:
        manifest = read_manifest(folder)
    except DamagedFileError as error:
        raise _damaged(folder, f"a damaged {MANIFEST_NAME}") from error
    if manifest is None and (folder / RESULTS_NAME).exists() and not is_half_published(folder):
        raise _damaged(folder, f"results without a {MANIFEST_NAME}")
    return found, manifest


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(
        f"output_dir: expected the stage in {folder} as it was written, got {what}; put it back from a copy, or delete "
        "the folder, and the same command makes it again"
    )


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that this package did not write: they would be overwritten or deleted.

    Raises:
        InputError: names some of them.
    """
    if held := foreign_names(folder):
        some = listed(held, 3)
        raise InputError(
            f"output_dir: expected a new or empty folder, or one of the same stage, got {folder}, which holds {some}; "
            "give another output_dir"
        )
