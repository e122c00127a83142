"""Early stopping that knows, after an interruption, how long it has waited already."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .best_score import chosen_score
from .selection import is_candidate


class EarlyStopping(TrainerCallback):
    """Stops after `early_stopping_patience` evaluations that are no better than the best before them.

    Decides by the log alone: transformers' own begins at 0 again whenever a training is resumed, and waits for ever
    where evaluations are not saved.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stop the training, if it has waited long enough."""
        if evaluations_without_gain(args, state) >= self.patience:
            control.should_training_stop = True


def evaluations_without_gain(args: TrainingArguments, state: TrainerState) -> int:
    """How many evaluations the log has since the last one that was better than the best before it.

    Of a training whose result is the best of its saved weights, that is the best of those.
    """
    name = f"eval_{chosen_score(args)}"
    better = np.greater if args.greater_is_better else np.less
    best, waited = None, 0
    for entry in state.log_history:
        if name not in entry:
            continue
        gained = best is None or bool(better(entry[name], best))
        waited = 0 if gained else waited + 1
        if gained and (is_candidate(entry) or not args.load_best_model_at_end):
            best = entry[name]
    return waited
