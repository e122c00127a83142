"""A teacher with a tokenizer of its own: its tokens of the same rows travel in the student's batches.

Only for tasks with `whole_row_logits`, whose features are rows: number N is the same row for both models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from ...errors import InputError
from ...fast.states_cache import ROW
from ...method.filters import Batch
from ...models.tokenizers import Tokenizers
from ...tasks.base import Task
from ...training.updates import collate

_OWN = "teacher/"
"""Keys of a batch that start with this are for the teacher."""


@dataclass(frozen=True)
class TeacherInputs:
    """The training rows as the teacher's tokenizer makes them.

    Raises:
        InputError: there are not as many features as the student has.
    """

    features: Dataset
    task: Task
    tokenizers: Tokenizers
    of_student: int
    """The number of the student's features."""

    def __post_init__(self) -> None:
        if len(self.features) != self.of_student:
            raise InputError(
                f"task {self.task.name}: expected a feature for each row, as whole_row_logits says, got "
                f"{len(self.features)} with the teacher's tokenizer and {self.of_student} with the student's; choose a "
                "student with the teacher's vocabulary"
            )

    def collate(self, features: list[dict[str, Any]]) -> Batch:
        """The student's batch, and the teacher's tokens of the same rows under names that only `of_batch` reads."""
        of_student = collate(features, self.task, self.tokenizers.student)
        own = self.task.collate([self.features[feature[ROW]] for feature in features], self.tokenizers.teacher)
        # Of the same kind as the student's: a batch may stand in for rows that a process does not have.
        return type(of_student)(of_student | {_OWN + name: tensor for name, tensor in own.items()})

    def of_batch(self, batch: Batch) -> Batch:
        """The teacher's part of a batch, and the numbers of its rows if it has them."""
        own = {name.removeprefix(_OWN): tensor for name, tensor in batch.items() if name.startswith(_OWN)}
        return own | {ROW: batch[ROW]} if ROW in batch else own
