"""What may be asked for of FSDP and DeepSpeed, by flags or by the environment that `accelerate launch` makes."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Any

from transformers import TrainingArguments

from ...output.processes import local_rank
from ...wording import counted
from ..fitting_memory import RECOMPUTES

logger = logging.getLogger(__name__)

_LOADING = "FSDP_CPU_RAM_EFFICIENT_LOADING"
_DEEPSPEED = "ACCELERATE_USE_DEEPSPEED"
_BY_FLAGS = (
    "gradient_accumulation_steps", "gradient_clipping", "train_batch_size", "train_micro_batch_size_per_gpu",
)  # fmt: skip
"""What the stages' own flags say, and accelerate's environment only repeats: keys of DeepSpeed's config."""
_OTHERS = {
    "ACCELERATE_USE_MEGATRON_LM": "megatron_lm",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism_config",
}
"""What else `accelerate launch` may ask for: variable -> its name in a config of accelerate."""


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "on")


def launched() -> bool:
    """Whether this is one of the processes of a launcher."""
    return local_rank() is not None


def asks_for_fsdp(args: TrainingArguments) -> bool:
    """Whether weights are to be split over processes, as flags or accelerate's environment say."""
    return bool(args.fsdp) or _is_on("ACCELERATE_USE_FSDP")


def asks_for_deepspeed(args: TrainingArguments) -> bool:
    """Whether the optimizer's state is to be split by DeepSpeed, as flags or accelerate's environment say."""
    return bool(args.deepspeed) or _is_on(_DEEPSPEED)


def backend_problems(args: TrainingArguments) -> list[str]:
    """Requested ways to train that are not supported, each a line "NAME: expected X, got Y; do Z"."""
    problems = [
        f"{name}: expected none in accelerate's config, as the stages train with data parallelism, FSDP2 or DeepSpeed, "
        "got one; leave it out"
        for variable, name in _OTHERS.items()
        if _is_on(variable)
    ]
    if asks_for_deepspeed(args) and find_spec("deepspeed") is None:
        problems.append(
            "deepspeed: expected the package, got none; pip install deepspeed, or use fsdp with reshard_after_forward "
            "false, which splits the same things (recipes/accelerate/zero2.yaml)"
        )
    return problems


def fsdp_problems(args: TrainingArguments) -> list[str]:
    """Settings of FSDP that are not supported; `args` are those that transformers has read `fsdp_config` for."""
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
            "torch_compile: expected false with fsdp, as it is not known to give the same losses there, got true; "
            "leave one of the two out"
        )
    if not launched():
        problems.append(
            "fsdp: expected processes to split weights over, got one; start it with `accelerate launch` or `torchrun`"
        )
    return problems


def deepspeed_problems(args: TrainingArguments) -> list[str]:
    """Settings of DeepSpeed that are not supported; `args` are those that transformers has read its config for."""
    if not asks_for_deepspeed(args):
        return []
    config = _config_of(args.deepspeed_plugin)
    zero = config.get("zero_optimization", {})
    problems: list[str] = []
    if (stage := zero.get("stage", 0)) not in (1, 2):
        problems.append(
            f"deepspeed: expected ZeRO stage 1 or 2, got {stage}; to split the weights too, use fsdp "
            "(recipes/accelerate/fsdp2.yaml)"
        )
    devices = [(zero.get(f"offload_{what}") or {}).get("device", "none") for what in ("optimizer", "param")]
    if moved := next((device for device in devices if device != "none"), None):
        problems.append(f"deepspeed: expected nothing to be offloaded, got {moved}; leave offload_optimizer out")
    if own := [name for name in ("optimizer", "scheduler") if name in config]:
        problems.append(
            f"deepspeed: expected no {' and no '.join(own)} in its config, as the stages make their own, got one; "
            "leave it out, and give --optim, --learning_rate and --lr_scheduler_type"
        )
    if args.fp16 or config.get("fp16", {}).get("enabled") is True:
        problems.append("fp16: expected false with deepspeed, got true; give --bf16 true or neither")
    if args.torch_compile:
        problems.append("torch_compile: expected false with deepspeed, got true; leave one of the two out")
    if not launched():
        problems.append(
            "deepspeed: expected processes to split over, got one; start it with `accelerate launch` or `torchrun`"
        )
    return problems


def leave_to_flags(args: TrainingArguments) -> None:
    """Let flags win over accelerate's environment, which has values for the same settings."""
    if asks_for_deepspeed(args) and not args.deepspeed:
        _config_of(args.deepspeed_plugin).update(dict.fromkeys(_BY_FLAGS, "auto"))


def _config_of(plugin: Any) -> dict[str, Any]:
    """DeepSpeed's config, which an engine is made of later, to read and to change."""
    config: dict[str, Any] = plugin.hf_ds_config.config
    return config


def settle_deepspeed(plugin: Any, bf16: bool) -> None:
    """Weights stay in float32, and their gradients are added in it, as without DeepSpeed; bf16 is autocast."""
    config = _config_of(plugin)
    config.pop("bf16", None)
    config["zero_allow_untested_optimizer"] = True
    if bf16:
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}


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
            counted(accelerator.num_processes, "process"),
            str(accelerator.device.type).upper(),
        )  # fmt: skip
