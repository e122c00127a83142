"""All options that give the published implementation's numbers where ours differ on purpose.

Each is a task that overrides one method; the losses and the stages stay the same. No command of the package uses
them: `as_published` is called by `benchmarks/published_case.py`, from which `benchmarks/published_parity.py` and
`tests/published/` compare a training with the published code, and by those who need its numbers in Python. For
training, use the ordinary tasks.

    distill(teacher, student, as_published(load_task("stsb")), StageArguments("runs/stsb_as_published"))

`docs/method.md` has the list of all deliberate differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from ..method import losses
from ..method.filters import Batch
from ..tasks import QuestionAnswering, Regression, SequenceClassification
from ..tasks.base import Task


class PaddingCounts(Task):
    """Padding tokens count in the layer loss, and in the losses and the KL of question answering.

    Not our default because the loss then depends on how a batch was padded. Without padding it changes nothing.
    """

    padding_counts = True

    def mask(self, batch: Batch) -> Tensor:
        """(B, T) ones."""
        return torch.ones_like(batch["attention_mask"])


class KLOverBatch(Regression):
    """The KL of scores is one softmax over the B scores of a batch, divided by B.

    Not our default because it compares rows that have nothing to do with each other, does not see a shift of all
    scores, and depends on which rows meet in a batch; ours is the squared difference of the scores.
    """

    def match(
        self, student_logits: Tensor, teacher_logits: Tensor, batch: Batch, temperature: float, count: Tensor | None
    ) -> Tensor:
        """`losses.class_kl` with the batch in the place of the classes."""
        rows = torch.tensor(float(len(student_logits)), device=student_logits.device) if count is None else count
        return losses.class_kl(student_logits.reshape(1, -1), teacher_logits.reshape(1, -1), temperature, rows)


class Float32ClassLoss(SequenceClassification):
    """The cross-entropy rounds logits to float32, even those of a model in float64.

    Not our default because it loses digits (a relative 1e-7). In float32, bf16 or fp16 it changes nothing.
    """

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Cross-entropy in float32."""
        return super().loss(logits.float(), batch, count)


class PublishedQuestionAnswering(PaddingCounts, QuestionAnswering):
    """Question answering with the losses of the published code."""


class PublishedClassification(PaddingCounts, Float32ClassLoss):
    """Sequence classification with the losses of the published code."""


class PublishedRegression(PaddingCounts, KLOverBatch):
    """Regression with the losses of the published code."""


def as_published(task: Task) -> Task:
    """The same task with the losses of the published code.

    Raises:
        InputError: the published code does not have this kind of task.
    """
    published: Task
    if isinstance(task, QuestionAnswering):
        published = PublishedQuestionAnswering(task.arguments)
    elif isinstance(task, Regression):
        published = PublishedRegression(task.arguments, task.preset)
    elif type(task) is SequenceClassification:
        published = PublishedClassification(task.arguments, task.preset)
    else:
        raise InputError(
            f"task: the published code has classification, regression and question answering, but not {task.name}; "
            "use the task as it is"
        )
    published.given = task.given
    return published
