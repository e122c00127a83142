"""What may be asked for of FSDP and DeepSpeed, by flags or by the environment that `accelerate launch` makes."""

from __future__ import annotations

import logging
import os
from typing import Any

from transformers import TrainingArguments

from .fitting_memory import RECOMPUTES

logger = logging.getLogger(__name__)

_LOADING = "FSDP_CPU_RAM_EFFICIENT_LOADING"
_OTHERS = {
    "ACCELERATE_USE_MEGATRON_LM": "megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}
"""What else `accelerate launch` may ask for: variable -> its name in a config of accelerate."""


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def launched() -> bool:
    """Whether this is one of the processes of a launcher."""
    return int(os.environ.get("LOCAL_RANK", -1)) >= 0


def asks_for_fsdp(args: TrainingArguments) -> bool:
    """Whether weights are to be split over processes, as flags or accelerate's environment say."""
    return bool(args.fsdp) or _is_on("ACCELERATE_USE_FSDP")


def backend_problems(args: TrainingArguments) -> list[str]:
    """Ways to train that are asked for and cannot be had, each a line "NAME: expected X, got Y; do Z"."""
    problems = [
        f"{name}: expected none in accelerate's config, as the stages train with data parallelism or FSDP2, got one; "
        "leave it out"
        for variable, name in _OTHERS.items()
        if _is_on(variable)
    ]
    if args.deepspeed or _is_on("ACCELERATE_USE_DEEPSPEED"):
        problems.append(
            "deepspeed: expected none, as the stages shard with FSDP2, got DeepSpeed; use fsdp, which is ZeRO-3, or "
            "with reshard_after_forward false ZeRO-2 (recipes/accelerate/zero2.yaml)"
        )
    return problems


def fsdp_problems(args: TrainingArguments) -> list[str]:
    """What of FSDP cannot be had; `args` are those that transformers has read `fsdp_config` for."""
    problems: list[str] = []
    if not asks_for_fsdp(args):
        return problems
    config = args.fsdp_config if args.fsdp and isinstance(args.fsdp_config, dict) else {}
    version = str(config.get("version", 2)) if args.fsdp else os.environ.get("FSDP_VERSION", "1")
    if version != "2":
        problems.append(
            f"fsdp: expected version 2, got {version}; set fsdp_version to 2 in accelerate's config (or --fsdp_version "
            "2 of accelerate launch)"
        )
    if config.get("xla"):
        problems.append("fsdp: expected no xla, got it; use GPUs, or torchrun alone")
    if config.get("activation_checkpointing") or (not args.fsdp and _is_on("FSDP_ACTIVATION_CHECKPOINTING")):
        problems.append(
            "fsdp: expected no activation_checkpointing of FSDP, which drops out other numbers when it computes "
            f"activations again, got it; leave it out and set --{RECOMPUTES} true"
        )
    if args.torch_compile:
        problems.append(
            "torch_compile: expected false beside fsdp, as it is not known to give the same losses there, got true; "
            "leave one of the two out"
        )
    if not launched():
        problems.append(
            "fsdp: expected processes to split weights over, got one; start it with `accelerate launch` or `torchrun`"
        )
    return problems


def settle_environment() -> None:
    """Every process loads its models whole: all of them are checked and fingerprinted before anything is trained."""
    if _is_on(_LOADING):
        os.environ[_LOADING] = "false"


def say_not_sharded(accelerator: Any) -> None:
    """Where accelerate shards no weights, as on CPUs, it does not say so."""
    if accelerator.is_main_process:
        logger.warning(
            "fsdp: expected GPUs to split weights over, got %s on a %s, where accelerate ignores fsdp; every process "
            "trains a whole copy, which gives the same weights",
            "1 process" if accelerator.num_processes == 1 else f"{accelerator.num_processes} processes",
            str(accelerator.device.type).upper(),
        )  # fmt: skip
