"""The training arguments of every stage: those of transformers with defaults that keep the best checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from .errors import InputError, raise_if_any


@dataclass
class StageArguments(TrainingArguments):
    """`transformers.TrainingArguments`, all of them, with other defaults and two more fields.

    Every epoch is scored and saved, the best one is kept and is what comes out; `--eval_strategy no` keeps the last.

    Raises:
        InputError: arguments that contradict each other.
    """

    eval_strategy: str = field(default="epoch", metadata={"help": "score every: no, steps, epoch"})
    save_strategy: str = field(default="epoch", metadata={"help": "checkpoint every: no, steps, epoch"})
    save_total_limit: int | None = field(default=1, metadata={"help": "checkpoints kept beside the best one"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "the best checkpoint comes out"})
    logging_steps: float = field(default=50, metadata={"help": "steps between two points of the curves"})
    logging_nan_inf_filter: bool = field(default=False, metadata={"help": "hide a loss that is no number"})
    remove_unused_columns: bool = field(default=False, metadata={"help": "left to the task"})
    keep_checkpoints: bool = field(default=False, metadata={"help": "keep checkpoint-* folders of a finished stage"})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after so many evaluations without a better score"}
    )

    def __post_init__(self) -> None:
        if str(getattr(self.eval_strategy, "value", self.eval_strategy)) == "no":
            self.load_best_model_at_end = False
        self.remove_unused_columns = False
        # transformers refuses bf16 on a CPU unless told that the CPU is meant.
        if not torch.accelerator.is_available():
            self.use_cpu = True
        raise_if_any(self._unused())
        try:
            super().__post_init__()
        except (ValueError, TypeError, ImportError) as error:
            raise InputError(f"training arguments: {error}") from error

    def _unused(self) -> list[str]:
        """Arguments the stages would silently ignore: they compute their own losses and publish their own folder."""
        problems = []
        if self.label_smoothing_factor:
            problems.append("label_smoothing_factor: not used by the stages' losses; leave it out")
        if self.neftune_noise_alpha:
            problems.append("neftune_noise_alpha: not used by the stages; leave it out")
        if self.fsdp or self.deepspeed:
            problems.append("fsdp, deepspeed: checkpoints of sharded models are not written yet; use torchrun alone")
        if self.push_to_hub:
            problems.append("push_to_hub: upload the finished folder with `hf upload` instead")
        return problems
