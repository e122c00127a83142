"""The training arguments of every stage: those of transformers, with defaults that keep the best checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from ..errors import InputError, raise_if_any
from ..fast.precision import FROZEN_DTYPES, does_bfloat16_well

ATTENTIONS = ("auto", "fast", "plain", "flash")


@dataclass
class StageArguments(TrainingArguments):
    """`transformers.TrainingArguments`, all of them, with other defaults and a few more fields.

    Every epoch is scored and saved, and the best one is the stage's result; with `--eval_strategy no`, the last one.

    Raises:
        InputError: arguments that contradict each other.
    """

    eval_strategy: str = field(default="epoch", metadata={"help": "when to score: no, steps, epoch"})
    save_strategy: str = field(default="epoch", metadata={"help": "when to save a checkpoint: no, steps, epoch"})
    save_total_limit: int | None = field(default=1, metadata={"help": "checkpoints kept beside the best one"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "the result is the best checkpoint"})
    logging_steps: float = field(default=50, metadata={"help": "steps between two points of a curve"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide NaN and infinite losses"})
    seed: int = field(default=42, metadata={"help": "random seed"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "decided by the task"})
    keep_checkpoints: bool = field(
        default=False, metadata={"help": "keep the checkpoint-* folders of a finished stage"}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after this number of evaluations without a better score"}
    )
    # What makes it fast (docs/performance.md has the effect of each).
    bf16: bool | None = field(
        default=None, metadata={"help": "autocast to bfloat16 [where the hardware supports it well; not with fp16]"}
    )
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={"help": "group_by_length (rows of similar length in a batch), random or sequential"},
    )
    frozen_dtype: str = field(
        default="auto",
        metadata={
            "help": "data type of frozen models (the teacher, and in Stage I the model itself): float32, bfloat16, "
            "float16, or auto: bfloat16 where the hardware supports it well"
        },
    )
    cache_limit: float = field(
        default=20.0, metadata={"help": "gigabytes of disk for outputs of frozen models; 0 runs them in every epoch"}
    )
    cache_dir: str | None = field(
        default=None,
        metadata={
            "help": "folder of that cache, kept and shared with other stages [in output_dir, deleted at the end]"
        },
    )
    disentangled_attention: str = field(
        default="auto",
        metadata={
            "help": "DeBERTa-v2/v3: fast, plain (as in transformers), flash (package disentangled-flash, on CUDA), "
            "or auto: flash where it is installed, otherwise fast"
        },
    )
    fast_dropout: bool = field(
        default=True, metadata={"help": "on a CPU, draw the random numbers of dropout four at a time"}
    )
    keep_freed_memory: bool = field(
        default=True, metadata={"help": "on a CPU, do not give memory back to the system between steps"}
    )
    packed_linear: bool = field(
        default=True,
        metadata={"help": "on a CPU, lay out the weights of frozen bfloat16 models once instead of in each call"},
    )
    freeze_unseen_embeddings: bool = field(
        default=True,
        metadata={"help": "do not train embeddings of tokens that the training data lacks; Adam would not change them"},
    )

    def __post_init__(self) -> None:
        if str(getattr(self.eval_strategy, "value", self.eval_strategy)) == "no":
            self.load_best_model_at_end = False
        self.remove_unused_columns = False
        # transformers refuses bf16 on a CPU unless it is told to use the CPU.
        if not torch.accelerator.is_available():
            self.use_cpu = True
        if self.bf16 is None:
            on_cpu = self.use_cpu or not torch.cuda.is_available()
            self.bf16 = not self.fp16 and does_bfloat16_well(torch.device("cpu" if on_cpu else "cuda"))
        raise_if_any([*self._unused(), *self._wrong()])
        try:
            super().__post_init__()
        except (ValueError, TypeError, ImportError) as error:
            raise InputError(f"training arguments: {error}") from error

    def _wrong(self) -> list[str]:
        """Invalid values of our own fields."""
        problems = [
            f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)}"
            for name, choices in (("frozen_dtype", FROZEN_DTYPES), ("disentangled_attention", ATTENTIONS))
            if getattr(self, name) not in choices
        ]
        if not 0 <= self.cache_limit < math.inf:
            problems.append(f"cache_limit: expected gigabytes, at least 0, got {self.cache_limit}")
        return problems

    def _unused(self) -> list[str]:
        """Arguments that the stages would silently ignore: they compute their own losses and write their own folder."""
        problems = []
        if self.label_smoothing_factor:
            problems.append(
                f"label_smoothing_factor: expected 0, as the stages' losses do not use it, got "
                f"{self.label_smoothing_factor}; leave it out"
            )
        if self.neftune_noise_alpha:
            problems.append(
                f"neftune_noise_alpha: expected no value, as the stages do not use it, got {self.neftune_noise_alpha}; "
                "leave it out"
            )
        if self.fsdp or self.deepspeed:
            problems.append(
                "fsdp, deepspeed: expected neither, as checkpoints of sharded models are not supported, got one; use "
                "torchrun alone"
            )
        if self.push_to_hub:
            problems.append(
                "push_to_hub: expected false, as the stages do not upload, got true; upload the finished folder with "
                "`hf upload`"
            )
        return problems
