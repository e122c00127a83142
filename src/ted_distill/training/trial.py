"""The optimizer, the schedule and the trackers that arguments ask for, tried out before anything is loaded."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import SchedulerType, Trainer, TrainingArguments, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.training_args import OptimizerNames

from ..errors import nearest, reason_of, shown

_OF_A_MODEL = ("galore", "apollo", "lomo")
"""Parts of names of optimizers that need a model to be made: here it is only checked that they are installed."""
_UNKNOWN_STEPS = 1_000_000
"""Updates of a training whose number depends on the data."""
_PLACES = 200
"""Number of updates at which the learning rate is looked at."""


def optimizer_problems(args: TrainingArguments) -> list[str]:
    """Why the optimizer of `args`, whose values are in their ranges, cannot be made."""
    args = copy.copy(args)
    name = getattr(args.optim, "value", args.optim)
    args.optim = OptimizerNames(name)
    # Optimizers come from many packages, and their errors have no common class.
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
        kind([torch.nn.Parameter(torch.zeros(2))], **options)
        if args.optim_args and _without_optim_args(args) == (kind, options):
            return [
                f"optim_args: expected none, as optimizer {name} takes none from there, got {shown(args.optim_args)}; "
                "leave it out"
            ]
    except Exception as error:
        if any(part in name for part in _OF_A_MODEL) and not isinstance(error, ImportError):
            return []
        given = f" with optim_args {shown(args.optim_args)}" if args.optim_args else ""
        return [
            f"optim: expected an optimizer that can be made here, got {name}{given} ({reason_of(error)}); choose "
            "another one, such as adamw_torch, or install what it needs"
        ]
    return []


def _without_optim_args(args: TrainingArguments) -> tuple[Any, Any]:
    args = copy.copy(args)
    args.optim_args = None
    return Trainer.get_optimizer_cls_and_kwargs(args)


def schedule_problems(args: TrainingArguments) -> list[str]:
    """Why the schedule of `args`, whose values are in their ranges, cannot be made or makes no sense."""
    name, options = SchedulerType(args.lr_scheduler_type), args.lr_scheduler_kwargs
    steps = args.max_steps if args.max_steps > 0 else _UNKNOWN_STEPS
    reason = ""
    # What a schedule does with unknown names and wrong types is not the same for any two of them.
    try:
        options = json.loads(options) if isinstance(options, str) else options
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
        schedule = get_scheduler(
            name, optimizer, args.get_warmup_steps(steps), steps, scheduler_specific_kwargs=options
        )
        if isinstance(schedule, LambdaLR):
            reason = _wrong_factor(schedule, steps)
    except Exception as error:
        reason = reason_of(error)
    if not reason:
        return []
    if options:
        given = f"lr_scheduler_kwargs: expected what schedule {name.value} takes, got {shown(options)}"
    else:
        given = f"lr_scheduler_type: expected a schedule that needs no lr_scheduler_kwargs, got {name.value}"
    return [f"{given} ({reason}); fix lr_scheduler_kwargs, or choose another lr_scheduler_type"]


def _wrong_factor(schedule: LambdaLR, steps: int) -> str:
    """A factor of the learning rate that is not between 0 and 1, in words; empty if there is none."""
    for place in range(_PLACES + 1):
        step = steps * place // _PLACES
        factor = float(schedule.lr_lambdas[0](step))
        if not -1e-6 <= factor <= 1 + 1e-6:
            return f"it multiplies the learning rate by {factor:g} at {100 * place // _PLACES} % of the training"
    return ""


def tracker_problems(report_to: Any) -> list[str]:
    """Trackers that do not exist or are not installed."""
    given = [] if report_to is None else report_to
    names = list(given) if isinstance(given, (list, tuple)) else [given]
    if names in (["all"], ["none"]):
        return []
    known = sorted(INTEGRATION_TO_CALLBACK)
    installed = get_available_reporting_integrations()
    problems = []
    for name in names:
        if name not in known:
            wanted = f"none, all, or some of {', '.join(known)}"
            problems.append(f"report_to: expected {wanted}, got {shown(name)}{nearest(str(name), known)}")
        elif name not in installed:
            problems.append(f"report_to: expected a tracker that is installed, got {name}; install it or leave it out")
    return problems
