"""The rows of Stage II that have no label: those of a file, and noisy copies of training rows.

They are drawn as rows, before tokens are made, so that two tokenizers make features of the same ones.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from ...errors import raise_if_any
from ...identity import rows_fingerprint
from ...models.tokenizers import Tokenizers
from ...tasks.augmentation import noisy_tokens, plain_tokens, swapped_pairs
from ...tasks.base import Task
from ...training.labelled import LABELLED
from ..distill_arguments import DistillArguments

logger = logging.getLogger(__name__)

_OF_TOKENS = ("mask", "replace")
_ROWS, _SWAP, _TOKENS = range(3)
"""What is drawn: each has random numbers of its own."""


@dataclass(frozen=True)
class MoreRows:
    """What is trained on besides the labelled rows."""

    task: Task
    augment: tuple[str, ...]
    share: float | None
    seed: int

    @property
    def identity(self) -> dict[str, Any]:
        """What determines these rows, besides the training rows and the seed."""
        rows = self.task.unlabelled_rows
        return {
            "rows": None if rows is None else rows_fingerprint(rows),
            "share": self.share,
            "augment": list(self.augment),
        }

    @cached_property
    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers in the file, and in the training rows for the copies, each in order.

        All of the file and one copy of each training row or, for a share, a sample of these: with as many more copies
        as it needs.
        """
        labelled = len(self.task.rows["train"])
        given = 0 if self.task.unlabelled_rows is None else len(self.task.unlabelled_rows)
        wanted = None if self.share is None else max(1, round(labelled * self.share / (1 - self.share)))
        copies = labelled if self.augment else 0
        if copies and wanted is not None:
            copies *= max(1, math.ceil((wanted - given) / labelled))
        chosen = np.arange(given + copies)
        if wanted is not None and wanted < len(chosen):
            chosen = np.sort(self._draw(_ROWS).choice(len(chosen), wanted, replace=False))
        elif wanted is not None and wanted > len(chosen):
            logger.warning(
                "unlabelled_share: expected %d rows without labels for a share of %g, got %d; training on these",
                wanted, self.share, len(chosen),
            )  # fmt: skip
        return chosen[chosen < given], (chosen[chosen >= given] - given) % labelled

    def mixed(self, features: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The features of the labelled rows, those of the others after them, and which is which in `LABELLED`."""
        given, copied = self.numbers
        parts = [features.add_column(LABELLED, np.ones(len(features), dtype=bool))]
        if self.task.unlabelled_rows is not None and len(given):
            parts.append(self._features(self.task.unlabelled_rows.select(given), tokenizer, features))
        if len(copied):
            rows = self.task.rows["train"].select(copied)
            if "swap" in self.augment:
                rows = swapped_pairs(rows, self.task.text_columns(rows)[1], self._draw(_SWAP))
            copies = self._features(rows, tokenizer, features)
            if set(_OF_TOKENS) & set(self.augment):
                seen = plain_tokens(features, tokenizer)
                copies = noisy_tokens(copies, self.augment, tokenizer, seen, self._draw(_TOKENS))
            parts.append(copies)
        found = concatenate_datasets(parts)
        logger.warning(
            "%d of %d training features have labels; %d rows of unlabelled_file and %d noisy copies have none: all "
            "that can be learnt of these is what a teacher makes of them",
            len(features), len(found), len(given), len(copied),
        )  # fmt: skip
        return found

    def _features(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, like: Dataset) -> Dataset:
        made = self.task.encode_training(rows, tokenizer).select_columns(like.column_names)
        made = made if made.features == like.features else made.cast(like.features)
        return made.add_column(LABELLED, np.zeros(len(made), dtype=bool))

    def _draw(self, what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, what])


def check_more_rows(task: Task, arguments: DistillArguments) -> None:
    """Refuse arguments that do not fit each other or the task.

    Raises:
        InputError: with all problems.
    """
    arguments.check()
    problems = []
    if arguments.unlabelled_share is not None and not (task.arguments.unlabelled_file or arguments.augment):
        problems.append(
            f"unlabelled_share: expected unlabelled_file or augment with it, got {arguments.unlabelled_share:g} and "
            "neither; name a file or leave it out"
        )
    if arguments.augment:
        train = task.rows.get("train")
        if not task.takes_unlabelled or isinstance(train, IterableDataset):
            problems.append(
                f"augment: expected none for task {task.name}, which has no use for rows without labels, got "
                f"{' '.join(arguments.augment)}; leave it out"
            )
        elif train is not None and "swap" in arguments.augment and len(task.text_columns(train)) < 2:
            problems.append("augment: expected pairs of texts for swap, got single texts; leave swap out")
    raise_if_any(problems)


def choose_more_rows(task: Task, arguments: DistillArguments, tokenizers: Tokenizers, seed: int) -> MoreRows | None:
    """The further rows that arguments ask for; None if there are none.

    Raises:
        InputError: noise that the tokenizers cannot have.
    """
    augment = tuple(dict.fromkeys(arguments.augment or ()))
    problems = []
    if "mask" in augment and tokenizers.shared and tokenizers.student.mask_token_id is None:
        problems.append(
            f"augment: expected a tokenizer with a mask token for mask, got {tokenizers.student.name_or_path} without "
            "one; leave mask out"
        )
    if not tokenizers.shared and set(_OF_TOKENS) & set(augment):
        problems.append(
            f"augment: expected swap alone, as teacher and student read different tokens, got {' '.join(augment)}; "
            "leave mask and replace out, or choose a student with the teacher's vocabulary"
        )
    raise_if_any(problems)
    if task.unlabelled_rows is None and not augment:
        return None
    return MoreRows(task, augment, arguments.unlabelled_share, seed)
