"""Layer-wise distillation with TextBrewer, for `steps.py` to compare with ours.

The same as `ted distill --method lwd` as far as TextBrewer goes: a live teacher, all in float32, the mean squared
difference of every pair of hidden states behind a Linear of the student's, KD on the logits, the loss on the labels.
Its KD is a cross-entropy without the factor temperature^2, which its weight makes up for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Protocol

import torch
from textbrewer import DistillationConfig, GeneralDistiller, TrainingConfig
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, get_linear_schedule_with_warmup
from transformers.utils import ModelOutput

from step_flops import KL_ALPHA, LEARNING_RATE, MSE_ALPHA, TEMPERATURE

Batch = dict[str, Tensor]


class Pace(Protocol):
    """Decides when a step begins, and is told when it is over: `step_worker.Pacer`."""

    def wait(self) -> bool:
        """Whether there is to be another step."""
        ...

    def done(self) -> None:
        """The step is finished."""
        ...


class StepsOver(Exception):  # noqa: N818
    """The way out of TextBrewer's loop, which would save the student after its last step."""


class PacedBatches:
    """Batches one by one. TextBrewer asks for the next one when a step is over."""

    def __init__(self, loader: DataLoader, pace: Pace) -> None:
        self.loader = loader
        self.pace = pace
        self.running = False

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; TextBrewer starts over by itself."""
        batches = iter(self.loader)
        for _ in range(len(self.loader)):
            if self.running:
                self.pace.done()
            self.running = self.pace.wait()
            if not self.running:
                raise StepsOver
            yield next(batches)


def adaptor(batch: Batch, outputs: ModelOutput) -> dict[str, Any]:
    """The outputs that TextBrewer uses; the embeddings, hidden state 0, are not matched."""
    logits = outputs.logits if "logits" in outputs else (outputs.start_logits, outputs.end_logits)
    return {
        "logits": logits,
        "hidden": outputs.hidden_states[1:],
        "losses": outputs.loss,
        "inputs_mask": batch["attention_mask"],
    }


def distill(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    loader: DataLoader,
    steps: int,
    device: str,
    folder: str,
    pace: Pace,
) -> None:
    """Distil as long as `pace` asks for steps.

    Args:
        loader: gives dicts that both models take as they are, labels included.
        steps: how long the learning rate takes to fall to zero.
        folder: where TextBrewer would save.
    """
    teacher, student = teacher.to(device), student.to(device)
    optimizer = torch.optim.AdamW(student.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    blocks = student.config.num_hidden_layers
    widths = [student.config.hidden_size, teacher.config.hidden_size]
    matches = [
        {
            "layer_T": block, "layer_S": block, "feature": "hidden", "loss": "hidden_mse",
            "weight": MSE_ALPHA / blocks, "proj": ["linear", *widths],
        }
        for block in range(blocks)
    ]  # fmt: skip
    settings = DistillationConfig(
        temperature=TEMPERATURE, kd_loss_weight=KL_ALPHA * TEMPERATURE**2, hard_label_weight=1,
        intermediate_matches=matches,
    )  # fmt: skip
    # Its loop by steps needs to be told how often to save: after more steps than there are.
    training = TrainingConfig(device=device, output_dir=folder, log_dir=None, ckpt_steps=steps + 1)
    distiller = GeneralDistiller(training, settings, teacher, student, adaptor, adaptor)
    with distiller, suppress(StepsOver):
        distiller.train(
            optimizer, PacedBatches(loader, pace), num_steps=steps + 1, max_grad_norm=1.0,
            scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": 0, "num_training_steps": steps + 1},
            output_hidden_states=True,
        )  # fmt: skip
