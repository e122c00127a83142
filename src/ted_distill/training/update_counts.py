"""How many updates a training makes: a model that saw none is not published."""

from __future__ import annotations

import math

from ..errors import InputError, TrainingError
from ..wording import counted
from .contradictions import text_of
from .stage_arguments import StageArguments

_WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")
"""Schedules that do without a warm-up."""


def updates(args: StageArguments, features: int) -> int:
    """Optimizer updates on this many features, as `transformers.Trainer` counts them; 0 if no batch is full."""
    whole = _batches(args, features)
    if not whole or args.max_steps > 0:
        return args.max_steps if whole else 0
    return math.ceil((args.num_train_epochs or 0) * updates_of_epoch(args, features))


def updates_of_epoch(args: StageArguments, features: int) -> int:
    """Optimizer updates of one pass over this many features, at least 1."""
    return max(1, math.ceil(_batches(args, features) / args.gradient_accumulation_steps))


def _batches(args: StageArguments, features: int) -> int:
    """Batches of one pass, of all processes at once."""
    batches = features / (args.train_batch_size * args.world_size)
    return math.floor(batches) if args.dataloader_drop_last else math.ceil(batches)


def evaluations(args: StageArguments, updates: int, of_epoch: int) -> int:
    """How often a stage that trains to its end is scored on its validation rows, if it has any.

    Args:
        updates: optimizer updates in all.
        of_epoch: those of an epoch.
    """
    if text_of(args.eval_strategy) == "no":
        return 1  # at the end, for its results
    every = args.eval_steps or args.logging_steps
    return max(1, _times(text_of(args.eval_strategy), every, updates, of_epoch)) + bool(args.eval_on_start)


def saves(args: StageArguments, updates: int, of_epoch: int) -> int:
    """How many checkpoints such a stage writes, at the most."""
    if text_of(args.save_strategy) == "best":
        return evaluations(args, updates, of_epoch)
    return _times(text_of(args.save_strategy), args.save_steps, updates, of_epoch)


def _times(strategy: str, every: float, updates: int, of_epoch: int) -> int:
    """How often something happens that is done after every epoch, or after this many updates or a share of them."""
    if strategy == "epoch":
        return math.ceil(updates / of_epoch)
    if strategy != "steps":
        return 0
    # After the last update too.
    return math.ceil(updates / (max(1, math.ceil(every * updates)) if every < 1 else every))


def check_updates(args: StageArguments, features: int) -> None:
    """Refuse a training without a single update.

    Raises:
        InputError: there are no features, or fewer than a batch, and `dataloader_drop_last` leaves them out.
    """
    if not features:
        raise InputError("data: expected at least one feature to train on, got none; give other rows")
    if not updates(args, features):
        batch = args.train_batch_size * args.world_size
        raise InputError(
            f"dataloader_drop_last: expected at least one full batch of {batch} rows, got {features} rows in all, so "
            "that nothing would be trained; lower per_device_train_batch_size or leave this out"
        )


def warmup_doubt(args: StageArguments, updates: int) -> str | None:
    """What is wrong with a warm-up that is not over when the training is; None if it is.

    Args:
        updates: of the whole training.
    """
    # A share is always smaller; the other schedules know no warm-up.
    if args.warmup_steps < max(1, updates) or text_of(args.lr_scheduler_type) in _WITHOUT_WARMUP:
        return None
    return (
        f"warmup_steps: expected fewer than the {counted(updates, 'update')}, got {args.warmup_steps:g}; the rate "
        "never reaches its peak: lower it, or give a share such as 0.06"
    )


def refuse_untrained(steps: int, expected: int = 1) -> None:
    """Refuse to publish a model after no updates, such as on a stream that has no rows, or after too few.

    Args:
        expected: updates that the training should have made, if nothing that may end it earlier has.

    Raises:
        TrainingError: there were fewer.
    """
    if steps < 1:
        raise TrainingError("no update was made, so there is no trained model to publish; check the training data")
    if steps < expected:
        raise TrainingError(
            f"expected {expected} updates, got {steps}, as something ended the training; nothing was published, and "
            "the same command goes on from the last checkpoint, if there is one"
        )
