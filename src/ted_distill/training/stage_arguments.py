"""The training arguments of every stage: those of transformers, with defaults that keep the best checkpoint."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import torch
from transformers import TrainingArguments

from ..errors import InputError, raise_if_any, shown
from ..fast.precision import FrozenDtype, does_bfloat16_well
from ..output import command
from ..output.processes import process_count
from ..ranges import Range, a_path, at_least, described, range_problems, take_values
from .contradictions import contradictions, text_of
from .launcher_settings import take_launcher_settings
from .sharded.shard_arguments import (
    backend_problems,
    deepspeed_problems,
    fsdp_problems,
    leave_to_flags,
    settle_environment,
)
from .training_ranges import TRAINING_RANGES
from .trial import optimizer_problems, schedule_problems, tracker_problems

logger = logging.getLogger(__name__)

AUTO = "auto"
"""A learning rate that is searched for: see `stages.rate_search`."""
Attention = Literal["auto", "fast", "plain", "flash"]


_LOW_RATE = 1e-5
"""Lower than what stages and searches choose for models of the usual widths."""
_SCORES = "the stages score models in their own way", "leave it out"
_TO_BE_FALSE = {
    "push_to_hub": ("the stages do not upload", "upload the finished folder with `ted push FOLDER OWNER/NAME`"),
    "use_liger_kernel": ("the stages compute their own losses", "leave it out"),
    "save_on_each_node": ("one process writes a stage's folder, which all have to see", "leave it out"),
    "enable_jit_checkpoint": (
        "the stages save a checkpoint themselves when they are interrupted, and resume from it", "leave it out",
    ),
    "bf16_full_eval": _SCORES,
    "fp16_full_eval": _SCORES,
    "prediction_loss_only": _SCORES,
    "batch_eval_metrics": _SCORES,
}  # fmt: skip
"""Arguments of transformers that the stages would ignore or be harmed by: why, and what to do instead."""


@described
@dataclass
class StageArguments(TrainingArguments):
    """`transformers.TrainingArguments`, all of them, with other defaults and a few more fields.

    Every epoch is scored and saved, and the best one is the stage's result; with `--eval_strategy no`, the last one.

    Raises:
        InputError: arguments that contradict each other.
    """

    RANGES: ClassVar[dict[str, Range]] = TRAINING_RANGES

    learning_rate: float | str | None = field(
        default=None,
        metadata={"help": f"peak learning rate, or {AUTO}: a short search [by stage]"},
    )
    num_train_epochs: float | None = None
    """passes over the data [3; Stage I: by task]"""
    per_device_train_batch_size: int = 16
    """rows per batch on each device"""
    warmup_steps: float = 0.06
    """steps until the peak, or a share of all"""
    max_grad_norm: float = 1.0
    """gradients longer than this are shortened"""
    eval_strategy: str = "epoch"
    """when to score: no, steps, epoch"""
    save_strategy: str = "epoch"
    """when to save a checkpoint: no, steps, epoch"""
    save_total_limit: int | None = 1
    """checkpoints kept in addition to the best one"""
    load_best_model_at_end: bool = True
    """the result is the best checkpoint"""
    metric_for_best_model: str | None = None
    """score by which the best checkpoint is chosen [the task's main score]"""
    greater_is_better: bool | None = None
    """whether it is better when greater [known from its name]"""
    _n_gpu: int = field(init=False, repr=False, default=-1)
    logging_steps: float = 50
    """steps between two points of a curve"""
    logging_nan_inf_filter: bool = False
    """hide NaN and infinite losses"""
    seed: int = 42
    """random seed"""
    remove_unused_columns: bool = False
    """decided by the task"""
    keep_checkpoints: bool = False
    """keep the checkpoint-* folders of a finished stage"""
    early_stopping_patience: Annotated[int | None, at_least(1)] = None
    """stop after this number of evaluations without a better score"""
    disable_tqdm: bool | None = False
    """show no progress: no live display and no lines on steps, only scores and messages"""
    # What makes it fast (docs/performance.md has the effect of each).
    bf16: bool | None = None
    """autocast to bfloat16 [where the hardware supports it well; not with fp16]"""
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = "group_by_length"
    """random, sequential, or group_by_length, which pads least"""
    frozen_dtype: FrozenDtype = "auto"
    """data type of frozen models; auto: bfloat16 where it is supported well"""
    cache_limit: Annotated[float, at_least(0)] = 20.0
    """GB of disk for outputs of frozen models; 0: runs them each epoch"""
    cache_dir: Annotated[str | None, a_path()] = None
    """folder of that cache, kept and shared with other stages [in output_dir, deleted at the end]"""
    disentangled_attention: Attention = "auto"
    """DeBERTa-v2/v3: fast, plain (as in transformers), flash (package disentangled-flash, on CUDA), or auto: flash
    where it is installed, otherwise fast"""
    fast_dropout: bool = True
    """on a CPU, draw the random numbers of dropout four at a time"""
    keep_freed_memory: bool = True
    """on a CPU, do not give memory back to the system between steps"""
    packed_linear: bool = True
    """on a CPU, lay out the weights of frozen bfloat16 models once instead of in each call"""
    freeze_unseen_embeddings: bool = True
    """do not train embeddings of tokens that the training data lacks; Adam would not change them"""

    def __post_init__(self) -> None:
        take_values(self)
        if text_of(self.eval_strategy) == "no":
            self.load_best_model_at_end = False
        self.remove_unused_columns = False
        # transformers refuses bf16 on a CPU unless it is told to use the CPU.
        if not torch.accelerator.is_available():
            self.use_cpu = True
        contradicted = take_launcher_settings(self)
        if self.bf16 is None:
            on_cpu = self.use_cpu or not torch.cuda.is_available()
            self.bf16 = not self.fp16 and does_bfloat16_well(torch.device("cpu" if on_cpu else "cuda"))
        # A flag is a text; transformers takes texts for the names of FSDP1's strategies.
        fsdp: Any = vars(self)["fsdp"]
        if isinstance(fsdp, str) and fsdp.lower() in ("true", "false"):
            self.fsdp = fsdp.lower() == "true" or None
        for name in ("adam_beta1", "adam_beta2"):
            if getattr(self, name) == 0:
                setattr(self, name, 0.0)  # PyTorch refuses the whole number
        raise_if_any([*contradicted, *self._problems()])
        # transformers would put `loss` and its direction in place of what was not given, and the stages have no such
        # score: they choose by the task's metric.
        chosen_by = self.metric_for_best_model, self.greater_is_better
        # What transformers and accelerate raise for arguments that they refuse has no common class.
        try:
            super().__post_init__()
        except OSError as error:
            name = next((name for name, value in vars(self).items() if value == error.filename), "arguments")
            raise InputError(f"{name}: expected a file, got {shown(error.filename)} ({error.strerror})") from error
        except Exception as error:
            raise InputError(f"training arguments: {' '.join(str(error).split())}") from error
        self.metric_for_best_model, self.greater_is_better = chosen_by
        self.mixed_precision = self.autocast_type
        raise_if_any([*fsdp_problems(self), *deepspeed_problems(self)])
        settle_environment()
        leave_to_flags(self)
        self._use_one_device()

    @property
    def autocast_type(self) -> str:
        """`bf16`, `fp16` or `no`: the type that a forward pass computes in."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else "no"

    @property
    def global_batch(self) -> int:
        """Features of one update, of all its micro-batches and processes."""
        return int(self.train_batch_size * self.gradient_accumulation_steps * self.world_size)

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Updates of warm-up: a share is rounded down, as the first update of a warm-up has a rate of 0, which would be
        all that a very short training has.
        """
        if 0 < self.warmup_steps < 1:
            return int(num_training_steps * self.warmup_steps)
        return int(super().get_warmup_steps(num_training_steps))

    def _problems(self) -> list[str]:
        """What is wrong with single arguments, and with several together."""
        problems = range_problems(type(self), vars(self))
        # Whatever rate a stage or a search will choose does for the checks.
        tried = copy.copy(self)
        if self.learning_rate in (None, AUTO):
            tried.learning_rate = 1e-3
        wrong = {problem.partition(":")[0] for problem in problems}
        problems += [*self._unused(), *contradictions(tried, wrong), *tracker_problems(self.report_to)]
        if not wrong & {"optim", "learning_rate", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay"}:
            problems += optimizer_problems(tried)
        if not wrong & {"lr_scheduler_type", "max_steps", "learning_rate", "warmup_steps"}:
            found = schedule_problems(tried)
            if not found and self.learning_rate in (None, AUTO):
                tried.learning_rate = _LOW_RATE
                if schedule_problems(tried):
                    found = [
                        f"learning_rate: expected a number with {shown(self.lr_scheduler_kwargs)} of "
                        f"lr_scheduler_kwargs, as that names a rate, got {self.learning_rate or 'none'}; set it"
                    ]
            problems += found
        return problems

    def _use_one_device(self) -> None:
        """A process trains on one device: the copies of `nn.DataParallel` could not gather our outputs."""
        if self._n_gpu > 1:
            _say_how_to_use_all(self._n_gpu)
            self._n_gpu = 1

    def _unused(self) -> list[str]:
        """Arguments that the stages would silently ignore: they compute their own losses and write their own folder."""
        problems = backend_problems(self)
        if self.auto_find_batch_size and process_count() > 1:
            problems.append(
                "auto_find_batch_size: expected one process, as several would not agree on a size, got "
                f"{process_count()}; leave it out, and lower per_device_train_batch_size and raise "
                "gradient_accumulation_steps instead"
            )
        if str(self.resume_from_checkpoint).lower() not in ("none", "true", "false"):
            problems.append(
                "resume_from_checkpoint: expected none, as a stage goes on from the last checkpoint of its own "
                f"output_dir, got {shown(self.resume_from_checkpoint)}; leave it out"
            )
        # Older versions of transformers lack some of them.
        problems += [
            f"{name}: expected false, as {reason}, got true; {remedy}"
            for name, (reason, remedy) in _TO_BE_FALSE.items()
            if getattr(self, name, False)
        ]
        if not getattr(self, "dataloader_in_order", True):
            problems.append(
                "dataloader_in_order: expected true, as the order of batches decides what comes out, got false; leave "
                "it out"
            )
        return problems


@lru_cache
def _say_how_to_use_all(devices: int) -> None:
    """Once in a process: how to train on all devices instead of one."""
    words = command().partition(" ")[2]
    logger.warning(
        "%d GPUs are visible; this process uses one. To use all: torchrun --nproc_per_node %d -m ted_distill %s",
        devices, devices, words,
    )  # fmt: skip
