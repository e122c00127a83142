"""How long the stages of a run still take, for the display."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ..errors import InputError
from ..progress import Schedule
from ..stages.methods import METHODS
from ..stages.rate_search import SEARCHED
from ..training.stage_arguments import AUTO
from ..training.update_counts import updates
from .planning.stage_plans import PlannedStage


def run_schedule(stages: Sequence[PlannedStage]) -> Schedule:
    """The schedule of planned stages.

    Steps that the plan does not know follow from the number of features as soon as one stage has made them. Methods
    with a teacher take about equally long for a step; every other stage has a pace of its own. Trials of a search for
    the learning rate are steps too.
    """
    planned = {stage.name: stage for stage in stages}

    def steps_of(name: str, features: int | None) -> int | None:
        stage = planned[name]
        steps = stage.steps if isinstance(stage.steps, int) else None
        if steps is None and features:
            with suppress(InputError, TypeError, ValueError):
                steps = updates(stage.args, features)
        if steps is not None and stage.args.learning_rate == AUTO:
            steps += round(SEARCHED * steps)
        return steps

    def kind_of(name: str) -> str:
        return "with a teacher" if name in METHODS and METHODS[name].needs_teacher else name

    return Schedule([stage.name for stage in stages], steps_of, kind_of)
