"""The number type that a model is trained and scored in: float32 where it does not run in autocast.

Most families run under bfloat16 or float16 autocast. In some, a layer expects its inputs in the type of its weights, or
fills in a number that only float32 holds (DeBERTa-v1, X-MOD). They are found by running them.
"""

from __future__ import annotations

import copy

import torch

from ..models.load import LoadedModel
from ..models.trying.check import autocast_problem
from ..tasks.base import Task
from ..tasks.reading.notices import notice
from ..training.sharded.shard_arguments import asks_for_deepspeed, asks_for_fsdp
from ..training.stage_arguments import StageArguments

OFF = "no"
AUTOCAST = {OFF: None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The types that a forward pass may compute in, by the names that arguments have for them."""


def fitting_autocast(loaded: LoadedModel, task: Task, device: torch.device, autocast_type: str) -> str:
    """`autocast_type`, or `OFF` for a model that does not run in it, which is said."""
    dtype = AUTOCAST[autocast_type]
    if dtype is None:
        return autocast_type
    problem = autocast_problem(loaded.as_module(task), loaded.tokenizer, task, device, dtype)
    if problem is None:
        return autocast_type
    notice(
        f"{autocast_type}: expected {type(loaded.model).__name__} to run in {autocast_type} autocast, got an error "
        f"({problem}); it computes in float32"
    )
    return OFF


def with_fitting_autocast(args: StageArguments, loaded: LoadedModel, task: Task) -> StageArguments:
    """The same arguments, or a copy without autocast for a model that does not run in it, which is said.

    A model whose weights will be split over processes is not tried.
    """
    if asks_for_fsdp(args) or asks_for_deepspeed(args):
        return args
    if fitting_autocast(loaded, task, args.device, args.autocast_type) == args.autocast_type:
        return args
    args = copy.copy(args)
    args.bf16 = args.fp16 = False
    args.mixed_precision = OFF
    return args
