"""Learning rate and length of a stage for those who set neither: what suits filters does not suit a whole model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from datasets import Dataset, IterableDataset
from transformers import PretrainedConfig

from ..errors import InputError, raise_if_any
from ..method.shapes import width
from .contradictions import FOLLOW_SCORES, text_of
from .stage_arguments import AUTO, StageArguments
from .trial import schedule_problems

LEAST_ROWS = 40
"""Training rows that a search for the rate needs."""


@dataclass(frozen=True)
class StageDefaults:
    """Learning rate and number of epochs of one kind of stage."""

    rate: float
    """At width 384. Wider models get less, by the square of the width, which meets what is usual: 1e-4 at 384, 2.5e-5
    at 768, 1.4e-5 at 1024 for fine-tuning."""
    epochs: float
    scaled: bool = True
    """Whether the rate falls with the width."""
    most: float = 1e-3
    """The peak for the narrowest models."""

    def rate_of(self, config: PretrainedConfig) -> float:
        """The peak learning rate for a model, `most` at most."""
        return min(self.most, float(f"{self.rate * (384 / _width(config)) ** 2:.3g}")) if self.scaled else self.rate

    def fill(self, args: StageArguments, config: PretrainedConfig) -> StageArguments:
        """A copy of the arguments in which what is not set has its default; a rate to be searched for stays `auto`.

        Args:
            config: of the model that is trained.

        Raises:
            InputError: the schedule does not go with the rate.
        """
        args = copy.copy(args)
        if args.learning_rate is None:
            args.learning_rate = self.rate_of(config)
            raise_if_any(schedule_problems(args))
        if args.num_train_epochs is None:
            args.num_train_epochs = self.epochs
        return args


def _width(config: PretrainedConfig) -> int:
    """The width of a model, or that of the most usual ones if its config does not say."""
    try:
        return width(config)
    except InputError:
        return 768


FINETUNE = StageDefaults(1e-4, 3)
"""For pre-trained models with a new head."""
DISTILL = StageDefaults(5e-4, 3, most=5e-4)
"""For blocks of a fine-tuned teacher without dropout, which allow a higher rate (docs/log.md); no higher for narrower
students, which a twice as high one has hurt under every method (docs/study-tasks.md, "A student of width 256")."""


def learn_filters_defaults(whole_rows: bool, running_text: bool) -> StageDefaults:
    """Those of Stage I.

    Args:
        whole_rows: a filter head reads one state of each row, so that an epoch over cached states takes seconds.
        running_text: a head predicts each next word, which costs most of a step, and one epoch has millions of them.
    """
    return StageDefaults(1e-3, 1 if running_text else 20 if whole_rows else 5, scaled=False)


def search_problems(args: StageArguments, rows: Mapping[str, Dataset | IterableDataset]) -> Iterator[str]:
    """Why no rate can be searched for: no training rows can be held out, or short trials have another schedule."""
    train = rows.get("train")
    if args.learning_rate != AUTO:
        return
    if (kind := text_of(args.lr_scheduler_type)) in FOLLOW_SCORES:
        yield (
            f"lr_scheduler_type: expected a schedule that short trials have too with learning_rate {AUTO}, got {kind}, "
            "which follows the scores of evaluations; give a number or another schedule"
        )
    if train is None:
        return
    if isinstance(train, IterableDataset):
        yield f"learning_rate: expected a number for a stream, no part of which can be held out, got {AUTO}; give one"
    elif len(train) < LEAST_ROWS:
        yield (
            f"learning_rate: expected at least {LEAST_ROWS} rows to train on for {AUTO}, which holds some of them out, "
            f"got {len(train)}; give a number"
        )


def refuse_search(args: StageArguments) -> None:
    """Refuse a search for the rate of a stage that has none.

    Raises:
        InputError: always, if one was asked for.
    """
    if args.learning_rate == AUTO:
        raise InputError(
            f"learning_rate: expected a number for Stage I, whose filters are scored by heads that are thrown away, "
            f"got {AUTO}; set it for finetune and distill alone, or give a number"
        )
