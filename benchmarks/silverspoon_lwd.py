"""Layer-wise distillation with SilverSpoon-KD, for `steps.py` to compare with ours.

The same as `ted distill --method lwd` as far as its `HolisticDistiller` goes: a live teacher, float32, the mean
squared difference of every pair of hidden states behind a Linear of the student's, the KL of the logits, the loss on
the labels. It compares padding too, of which the rows here have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from silverspoon_kd import (
    Alignment,
    GenericLinearProjector,
    HolisticDistiller,
    OutputSelector,
    TrainingArguments,
    kl_divergence_loss,
)
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback

from step_flops import KL_ALPHA, LEARNING_RATE, MSE_ALPHA, TEMPERATURE

_HEADS = ("classifier", "qa_outputs")


def logits_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """The KL of classes (B, C), or of the places (B, T, 2) where an answer begins and ends."""
    loss = kl_divergence_loss(temperature=TEMPERATURE)
    if student.dim() == 2:
        return loss(student, teacher)
    return loss(student.transpose(1, 2).contiguous(), teacher.transpose(1, 2).contiguous())


def alignments(teacher: PreTrainedModel, student: PreTrainedModel) -> list[Alignment]:
    """What is compared: the states of every block through a new Linear, and the logits."""
    blocks = list(zip(teacher.deberta.encoder.layer, student.deberta.encoder.layer, strict=True))
    widths = student.config.hidden_size, teacher.config.hidden_size
    found = [
        Alignment(
            *pair, student_module_name=f"block_{number}", output_projector=GenericLinearProjector(*widths),
            teacher_output_selector=OutputSelector(), loss_function="mse", loss_weight=MSE_ALPHA / len(blocks),
        )
        for number, pair in enumerate(blocks, start=1)
    ]  # fmt: skip
    head = next(name for name in _HEADS if hasattr(teacher, name))
    heads = getattr(teacher, head), getattr(student, head)
    return [*found, Alignment(*heads, student_module_name=head, loss_function=logits_kl, loss_weight=KL_ALPHA)]


def distill(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    features: Dataset,
    collate: Callable[[list[dict[str, Any]]], dict[str, Tensor]],
    batch_size: int,
    steps: int,
    device: str,
    folder: str,
    pacing: TrainerCallback,
) -> None:
    """Distil as long as `pacing` asks for steps.

    Args:
        collate: gives dicts that both models take as they are, labels included.
        steps: how long the learning rate takes to fall to zero.
        folder: where it would save.
    """
    arguments = TrainingArguments(
        output_dir=folder, per_device_train_batch_size=batch_size, learning_rate=LEARNING_RATE, max_steps=steps + 1,
        eval_strategy="no", save_strategy="no", logging_strategy="no", disable_tqdm=True, remove_unused_columns=False,
        use_cpu=device == "cpu", dataloader_drop_last=True,
        alpha=0.5,  # the labels count as much as what is compared
    )  # fmt: skip
    teacher, student = teacher.to(device), student.to(device)
    torch.manual_seed(0)
    pairs = alignments(teacher, student)
    for pair in pairs[:-1]:
        pair.output_projector.to(device)
    distiller = HolisticDistiller(
        student_model=student, teacher_model=teacher, alignments=pairs,
        train_dataset=features, data_collator=collate, args=arguments, callbacks=[pacing],
    )  # fmt: skip
    distiller.train()
