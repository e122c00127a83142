"""Training arguments that are fine alone and mean nothing together."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import torch
from transformers import TrainingArguments

FOLLOW_SCORES = ("reduce_lr_on_plateau", "greedy")
"""Schedules that lower the rate when the scores of evaluations get no better."""


def contradictions(args: TrainingArguments, wrong: set[str]) -> Iterator[str]:
    """What contradicts each other, each a line "NAME: expected X, got Y; do Z".

    Args:
        wrong: names of arguments that are outside their ranges, which are left alone.
    """
    yield from _precision(args)
    if not wrong & {"eval_strategy", "save_strategy", "eval_steps", "save_steps", "logging_steps"}:
        yield from _best_checkpoint(args)
    if "eval_strategy" not in wrong and text_of(args.eval_strategy) == "no":
        yield from _without_scores(args)
    if not wrong & {"learning_rate", "weight_decay"} and args.learning_rate * args.weight_decay >= 1:
        yield (
            f"weight_decay: expected less than 1 / learning_rate ({1 / args.learning_rate:g}), at which a step removes "
            f"the whole weight, got {args.weight_decay:g}; lower one of the two"
        )
    if "dataloader_num_workers" not in wrong and not args.dataloader_num_workers:
        for name in ("dataloader_prefetch_factor", "dataloader_persistent_workers"):
            if getattr(args, name):
                yield f"{name}: expected dataloader_num_workers above 0 with it, got 0; raise that, or leave this out"


def _precision(args: TrainingArguments) -> Iterator[str]:
    if args.fp16 and args.bf16:
        yield "fp16: expected one of fp16 and bf16, got both; leave one out"
    elif args.fp16 and (args.use_cpu or not torch.accelerator.is_available()):
        yield (
            "fp16: expected a GPU, got a CPU, which trains in bfloat16 or float32; give bf16, or neither for what "
            "this machine does best"
        )


def _best_checkpoint(args: TrainingArguments) -> Iterator[str]:
    """The best checkpoint is kept only if every score has its checkpoint."""
    scored, saved = text_of(args.eval_strategy), text_of(args.save_strategy)
    if not args.load_best_model_at_end or saved == "best":
        return
    if scored != saved:
        yield (
            f"save_strategy: expected {scored}, like eval_strategy, as the result is the best checkpoint, got {saved}; "
            "set both alike, or load_best_model_at_end to false"
        )
    elif scored == "steps":
        # transformers scores whenever it logs unless it is told otherwise.
        every = args.eval_steps or args.logging_steps
        if (every < 1) != (args.save_steps < 1) or Fraction(str(args.save_steps)) % Fraction(str(every)):
            yield (
                f"save_steps: expected a multiple of eval_steps ({every:g}), as the result is the best checkpoint, got "
                f"{args.save_steps:g}; change one, or set load_best_model_at_end to false"
            )


def _without_scores(args: TrainingArguments) -> Iterator[str]:
    if args.early_stopping_patience:
        yield (
            "early_stopping_patience: expected scores to wait for, got eval_strategy no; set that to epoch or "
            "steps, or leave this out"
        )
    if (kind := text_of(args.lr_scheduler_type)) in FOLLOW_SCORES:
        yield f"lr_scheduler_type: expected scores for {kind}, got eval_strategy no; set that to epoch or steps"


def text_of(value: object) -> str:
    """The text of a member of an enum, or a text."""
    return str(getattr(value, "value", value))
