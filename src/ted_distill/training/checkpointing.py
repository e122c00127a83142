"""How the trainer's checkpoints are written, read, and how much room they take."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from transformers import TrainerState

from ..errors import TrainingError, reason_of
from ..fast.states_cache import StatesCache
from ..output import (
    STATE_NAME,
    Need,
    rotate_checkpoints,
    seal_checkpoint,
    unsealed_checkpoints,
)
from .contradictions import text_of
from .stage_arguments import StageArguments
from .update_counts import saves, updates, updates_of_epoch

_SHOWN = 80
_MOMENTS = {"schedule_free_sgd": 1, "sgd": 0, "adafactor": 0, "adagrad": 1, "rmsprop": 1, "lion": 1}
"""Numbers that optimizers keep for each weight, by a part of their names; other ones keep two."""


@contextmanager
def save_whole(
    output_dir: Path, step: int, best: int | None, limit: int | None, accelerator: Any, is_main: bool
) -> Iterator[None]:
    """What is written inside, by all processes, becomes the checkpoint of a step once it is whole.

    Args:
        best: step of the best checkpoint so far, which is kept whatever the `limit`.
        limit: number of checkpoints to keep.
    """
    try:
        yield
        accelerator.wait_for_everyone()
        if is_main:
            seal_checkpoint(output_dir, step)
            rotate_checkpoints(output_dir, limit, {step, best})
        accelerator.wait_for_everyone()
    except Exception:
        # On a full disk it takes the room that the rest needs.
        shutil.rmtree(unsealed_checkpoints(output_dir), ignore_errors=True)
        raise


def save_state(state: TrainerState, folder: Path) -> None:
    """Write the trainer's state over what it wrote itself: the scores in their order, which is that of the results.

    The place of the best checkpoint is left out: it is a path of this machine, and the folder may be moved.
    """
    content = {**asdict(state), "best_model_checkpoint": None}
    (folder / STATE_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Raise what went wrong with shards as the error that it was: torch's own, of all processes, is no `Exception`."""
    try:
        yield
    except CheckpointException as error:
        first, _ = next(iter(error.failures.values()))
        raise (first if isinstance(first, Exception) else RuntimeError(str(first))) from error


@contextmanager
def readable(checkpoint: str | None) -> Iterator[None]:
    """Turn each of the many errors of reading a checkpoint into one line. Pickles are read only as tensors.

    Raises:
        TrainingError: says which checkpoint, and what to do.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (
        OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise TrainingError(
            f"{checkpoint}: expected a checkpoint of this stage, got files that cannot be read "
            f"({reason_of(error, _SHOWN)}); delete it, and the same command resumes from an older one, or starts anew"
        ) from error


# --- room -----------------------------------------------------------------------------------------------------


def room_needed(
    args: StageArguments,
    weights: int,
    trained: Iterable[Tensor],
    rows: int,
    model: int,
    caches: Iterable[object],
) -> list[Need]:
    """What a stage will write, at the most.

    Args:
        weights: bytes of the weights in a checkpoint.
        trained: weights with a state in the optimizer.
        rows: number of training rows; 0 if it is not known.
        model: bytes of the finished model.
        caches: the `StatesCache`s that the stage fills; others take no room.
    """
    folder = Path(args.output_dir)
    filled = [cache for cache in caches if isinstance(cache, StatesCache)]
    one = weights + int(moments_of(args) * bytes_of(trained))
    # Sharded optimizers have a folder of their own.
    there = sum(file.stat().st_size for file in folder.glob("checkpoint-*/**/*") if file.is_file())
    return [
        Need("checkpoints", folder, max(0, one * checkpoints_at_once(args, rows) - there)),
        Need("the finished model", folder, model),
        *(Need("hidden states", cache.folder, cache.bytes_to_come) for cache in filled),
    ]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Room that tensors take in a file."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def moments_of(args: StageArguments) -> float:
    """Numbers in float32 that the optimizer keeps for each weight: two, as Adam, unless its name says otherwise."""
    name = text_of(args.optim)
    kept = next((number for part, number in _MOMENTS.items() if part in name), 2)
    return kept / 4 if "8bit" in name else kept


def checkpoints_at_once(args: StageArguments, rows: int) -> int:
    """The most checkpoints that are on the disk at once: those kept, the best one, and the one being written."""
    if text_of(args.save_strategy) == "no":
        return 0
    rows = rows or args.global_batch  # of a stream, whose steps are given
    written = max(1, saves(args, updates(args, rows), updates_of_epoch(args, rows)))
    if not args.save_total_limit or args.save_total_limit < 0:
        return written
    return min(written, max(args.save_total_limit, 2 if args.load_best_model_at_end else 1) + 1)
