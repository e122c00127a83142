"""What to do where a batch does not fit into memory: which smaller one would, for the same updates."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel, TrainingArguments

from ..errors import InputError, NoRoomError, TrainingError, reason_of
from ..wording import counted

logger = logging.getLogger(__name__)

SHOWN = 100
"""Characters of an error that are shown."""


def same_updates(args: TrainingArguments, most: int) -> tuple[int, int]:
    """The largest batch of at most `most` rows, and how many are accumulated, for as many rows in an update as now."""
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
    size = max((size for size in range(1, min(most, rows) + 1) if rows % size == 0), default=1)
    return size, rows // size


def divide_anew(args: TrainingArguments, most: int, updates: int, failed: int | None = None) -> None:
    """Change arguments to batches of at most `most` rows, of which enough are accumulated that updates stay the same.

    Args:
        updates: made so far with larger batches.
        failed: rows of a batch that there was no room for, so that fewer are tried.

    Raises:
        TrainingError: there were some updates, so weights are no longer those that the training started from; or there
            was no room for a single row.
    """
    if failed == 1:
        raise TrainingError(
            "memory: expected room for a batch of 1 row, got none; shorten rows, or take a smaller model"
        )
    size, accumulated = same_updates(args, most if failed is None else min(most, failed - 1))
    if size == args.per_device_train_batch_size:
        return
    flags = _flags(size, accumulated)
    if updates:
        raise TrainingError(
            f"memory: expected room for batches of {args.per_device_train_batch_size} rows in every update, got none "
            f"after {updates}; give {flags}, and the same command resumes from the last checkpoint"
        )
    logger.warning(
        "auto_find_batch_size: no room for batches of %d rows; going on with %s, which gives the same updates",
        args.per_device_train_batch_size, flags,
    )  # fmt: skip
    args.per_device_train_batch_size, args.gradient_accumulation_steps = size, accumulated


@contextmanager
def room_to_score(size: int) -> Iterator[None]:
    """Say what to do where there is no memory for scoring.

    Args:
        size: rows that are scored at once.

    Raises:
        NoRoomError: there was none.
    """
    with _no_room(size, lambda reason: _what_can_be_scored(size, reason)):
        yield


@contextmanager
def room_to_begin(args: TrainingArguments, can_recompute: bool) -> Iterator[None]:
    """Say what to do where there is no memory for what a stage measures, in batches of its training, before that.

    Args:
        can_recompute: see `what_fits`.

    Raises:
        NoRoomError: there was none.
    """
    with _no_room(args.per_device_train_batch_size, lambda reason: what_fits(args, 0, reason, None, can_recompute)):
        yield


@contextmanager
def room_to_balance(size: int) -> Iterator[None]:
    """Say what to do where there is no memory for measuring the gradients of pairs.

    Args:
        size: rows that are measured at once, however training divides its batches.

    Raises:
        NoRoomError: there was none.
    """
    with _no_room(size, lambda reason: _what_can_be_balanced(size, reason)):
        yield


@contextmanager
def _no_room(size: int, explained: Callable[[str], str]) -> Iterator[None]:
    reason = ""
    try:
        yield
    except torch.OutOfMemoryError as error:
        # With the error go the tensors of the functions that it came through.
        reason = reason_of(error, SHOWN)
    if reason:
        raise NoRoomError(explained(reason), size)


def _what_can_be_scored(size: int, reason: str) -> str:
    found = f"memory: expected room to score {counted(size, 'row')} at once, got none ({reason})"
    if size == 1:
        return f"{found}; shorten rows, or take a smaller model"
    return f"{found}; give --per_device_eval_batch_size {size // 2} (the same command resumes)"


def _what_can_be_balanced(size: int, reason: str) -> str:
    return (
        f"memory: expected room for the gradients that pair_weights: balanced measures, {counted(size, 'row')} at "
        f"once, got none ({reason}); give numbers as pair_weights, shorten rows, or take a smaller model"
    )


def what_fits(
    args: TrainingArguments, step: int, reason: str, runs: Callable[[int], None] | None, can_recompute: bool = True
) -> str:
    """Why a training stopped that ran out of memory, and what would fit.

    Args:
        step: the update in which it did; 0 before the first.
        reason: the first line of the error.
        runs: goes forward and back with this many rows of the batch that did not fit; None if that cannot be tried.
        can_recompute: whether the model's family can compute activations again.
    """
    size = args.per_device_train_batch_size
    where = f"in update {step}" if step else "before the first update"
    found = f"memory: expected room for a batch of {counted(size, 'row')}, got none {where} ({reason})"
    more = f", or --{RECOMPUTES} true, which takes a third more time" if may_recompute(args, can_recompute) else ""
    fitting = None if runs is None else largest(args, runs)
    if fitting == 0 or size == 1:
        return f"{found}; not even one row fits: shorten rows, take a smaller model{more}"
    most = size // 2 if fitting is None else fitting
    flags = _flags(*same_updates(args, most))
    known = "try" if fitting is None else "this fits:"
    return f"{found}; {known} {flags}, which gives the same updates{more}; the same command resumes where it stopped"


def largest(args: TrainingArguments, runs: Callable[[int], None]) -> int:
    """The most rows, of those that divide an update, that are tried without an error; 0 if not even one is."""
    size = args.per_device_train_batch_size
    while size > 1:
        size, _ = same_updates(args, size - 1)
        if _fits(size, runs):
            return size
    return 0


def _fits(size: int, runs: Callable[[int], None]) -> bool:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        runs(size)
    except torch.OutOfMemoryError:
        return False
    return True


RECOMPUTES = (
    "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
)
"""The argument that trades time for memory, under the name that this version of transformers has for it."""


def check_recomputing(model: PreTrainedModel, args: TrainingArguments) -> None:
    """Refuse to compute activations again for a family that cannot. Raises `InputError`."""
    if _recomputes(args) and not model.supports_gradient_checkpointing:
        raise InputError(
            f"{RECOMPUTES}: expected a family that can compute activations again, got a {type(model).__name__}, which "
            "cannot; leave it out"
        )


def may_recompute(args: TrainingArguments, can_recompute: bool) -> bool:
    """Whether to advise computing activations again: the family can, and does not do so yet."""
    return can_recompute and not _recomputes(args)


def _recomputes(args: TrainingArguments) -> bool:
    return bool(getattr(args, RECOMPUTES))


def _flags(size: int, accumulated: int) -> str:
    return f"--per_device_train_batch_size {size} --gradient_accumulation_steps {accumulated}"
