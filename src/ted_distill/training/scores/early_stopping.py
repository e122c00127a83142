"""Early stopping that knows, after an interruption, how long it has waited already."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from .best_score import chosen_score
from .selection import is_candidate


class EarlyStopping(EarlyStoppingCallback):
    """Stops after `early_stopping_patience` evaluations that are no better than the best of saved weights.

    The count is made of the log, since transformers begins at 0 again whenever a training is resumed.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the evaluations before an interruption."""
        super().on_train_begin(args, state, control, **kwargs)
        self.early_stopping_patience_counter = evaluations_without_gain(args, state)


def evaluations_without_gain(args: TrainingArguments, state: TrainerState) -> int:
    """How many evaluations the log has since the last one that was better than the best before it."""
    name = f"eval_{chosen_score(args)}"
    better = np.greater if args.greater_is_better else np.less
    best, waited = None, 0
    for entry in state.log_history:
        if name not in entry:
            continue
        gained = best is None or bool(better(entry[name], best))
        waited = 0 if gained else waited + 1
        if gained and is_candidate(entry):
            best = entry[name]
    return waited
