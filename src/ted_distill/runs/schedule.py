"""How long the stages of a run still take, for the display."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..progress import Schedule
from ..stages.methods import METHODS
from ..training.update_counts import updates
from .planning.stage_plans import PlannedStage


def run_schedule(stages: Sequence[PlannedStage]) -> Schedule:
    """The schedule of planned stages.

    Steps that the plan does not know follow from the number of features as soon as one stage has made them. Methods
    with a teacher take about equally long for a step; every other stage has a pace of its own.
    """
    planned = {stage.name: stage for stage in stages}

    def steps_of(name: str, features: int | None) -> int | None:
        stage = planned[name]
        if isinstance(stage.steps, int):
            return stage.steps
        try:
            return updates(stage.args, features) if features else None
        except (InputError, TypeError, ValueError):
            return None

    def kind_of(name: str) -> str:
        return "with a teacher" if name in METHODS and METHODS[name].needs_teacher else name

    return Schedule([stage.name for stage in stages], steps_of, kind_of)
