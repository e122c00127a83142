"""What a training tells the display: its steps, the points of its curves, and its scores beside the best one."""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import IntervalStrategy

from ...progress import Score, current_display, raise_if_interrupted
from ..scores.best_score import chosen_score
from ..stage_arguments import StageArguments


class ShownProgress(TrainerCallback):
    """Takes the place of the bars and dictionaries of transformers.

    Args:
        scores_of: whose scores the evaluations give, if not the model's.
    """

    def __init__(self, scores_of: str = "") -> None:
        self.scores_of = scores_of

    def on_train_begin(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """The first step, or the one after a checkpoint's."""
        display = current_display()
        display.begin_training(state.global_step, state.max_steps, args.global_batch, evaluations_left(args, state))
        # Of before an interruption.
        points = [entry for entry in state.log_history if "loss" in entry]
        display.recall(points[-1] if points else None, self._last_score(args, state))

    def on_step_end(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """An update."""
        raise_if_interrupted()
        current_display().step(state.global_step, evaluations_left(args, state))

    def on_log(
        self,
        args: StageArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **more: Any,
    ) -> None:
        """A point of the curves."""
        if logs is not None and "loss" in logs:
            current_display().point(logs)

    def on_evaluate(self, args: StageArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        """Scores."""
        if (score := self._last_score(args, state)) is not None:
            current_display().score(score)

    def _last_score(self, args: StageArguments, state: TrainerState) -> Score | None:
        """The score that decides, as of the last evaluation in the log."""
        name = chosen_score(args)
        scored = [(entry["step"], entry[f"eval_{name}"]) for entry in state.log_history if f"eval_{name}" in entry]
        if not scored:
            return None
        step, value = scored[-1]
        choose = min if args.greater_is_better is False else max
        best = choose(found for _, found in scored)
        best_step = next(at for at, found in scored if found == best)
        teacher = None if self.scores_of else current_display().teacher.get(name)
        return Score(step, name, value, best, best_step, teacher, self.scores_of)


def evaluations_left(args: StageArguments, state: TrainerState) -> int:
    """How many evaluations are still to come, if the training is not stopped early."""
    last, step = state.max_steps, state.global_step
    if args.eval_strategy == IntervalStrategy.NO or not last:
        return 0
    if args.eval_strategy == IntervalStrategy.STEPS:
        every = max(1, round(state.eval_steps))
        # The last step is scored in any case.
        return math.ceil(last / every) - step // every if step < last else 0
    epochs = math.ceil(state.num_train_epochs)
    return max(0, epochs - math.floor(epochs * step / last)) if step < last else 0
