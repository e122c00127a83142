"""Where in its folder each model of a run is or will be.

RUN/teacher_init                           a teacher of random weights, if the recipe asks for one (`from_scratch`)
RUN/student_init                           a student made of blocks of a model, usually the teacher in RUN/teacher
RUN/teacher  RUN/student                   fine-tuned models
RUN/teacher_filters  RUN/student_filters   the same models with their filters (Stage I)
RUN/alone                                  the student trained on the labels alone, as long as with the methods
RUN/kd  RUN/lwd  RUN/ted ...               distilled students (Stage II)
RUN/states-cache                           the teacher's outputs for each row, while the run lasts
RUN/scores                                 scores of models taken as they are, and on further data (`score_on`)
RUN/best                                   a copy of the best student
RUN/recipe.yaml  RUN/results.json  RUN/results.md  RUN/run.log
RUN/kept.json                              with `keep: best`, what is known of a run whose other models were dropped

Runs that differ in their methods alone may share the rest: then all but the methods, the recipe and the results are in
a folder of their own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..models.load import ModelArguments
from ..output import short_name
from ..training.stage_arguments import StageArguments
from .recipe import Recipe, stage_arguments
from .recipe_keys import FINETUNE, FROM_SCRATCH, LEARN_FILTERS
from .recorded import COMPARISON
from .run_arguments import RunArguments


def _changed(run: RunArguments, **changes: Any) -> RunArguments:
    """A copy with other values, and with these methods alone: a trial of one of them has no use for `alone`."""
    changed = replace(run, **changes)
    changed.methods = list(run.methods)
    return changed


TEACHER_INIT, STUDENT_INIT = "teacher_init", "student_init"
"""Folders of the models that are made before anything is trained, and the steps that make them."""
COMPARISON_NAME = "compare.json"
"""What was found, in the folder of a comparison."""


class RunFolder:
    """The folders of a recipe's models."""

    def __init__(self, recipe: Recipe, shared: Path | None = None) -> None:
        self.folder = Path(str(recipe.run.output_dir))
        self.shared = shared or self.folder
        self.from_scratch = bool(recipe.content.get(FROM_SCRATCH))
        teacher = str(self.shared / TEACHER_INIT) if self.from_scratch else str(recipe.run.teacher)
        self.recipe = replace(recipe, run=_changed(recipe.run, teacher=teacher))
        """The recipe, whose teacher is a folder if it is made from scratch."""
        run = recipe.run
        self.given = [Path(model).resolve() for model in (recipe.run.teacher, recipe.run.student) if model]
        """Models that the user named, which may lie in the run's folder too."""
        self.makes_student = run.makes_student
        self.methods = list(run.methods)
        tuned_teacher = str(self.shared / "teacher") if recipe.tunes("teacher") else teacher
        # Blocks of a teacher made from scratch are useful only after it has been trained.
        trained = run.start == "teacher" or self.from_scratch
        self.student_source = (tuned_teacher if trained else teacher) if run.made_of_teacher else run.student or teacher
        student = str(self.shared / STUDENT_INIT) if self.makes_student else self.student_source
        self.raw = {"teacher": teacher, "student": student}
        self.tuned = {
            "teacher": tuned_teacher,
            "student": str(self.shared / "student") if recipe.tunes("student") else student,
        }
        self.start = student if run.start == "pretrained" else self.tuned["student"]
        """What the methods start from."""
        self.filtered = {owner: str(self.shared / f"{owner}_filters") for owner in self.raw}

    def arguments(self, stage: str) -> tuple[StageArguments, Any]:
        """See `recipe.stage_arguments`; what is shared writes to the shared folder."""
        if stage not in (*FINETUNE, *LEARN_FILTERS):
            return stage_arguments(self.recipe, stage)
        run = _changed(self.recipe.run, output_dir=str(self.shared))
        return stage_arguments(replace(self.recipe, run=run), stage)

    def makes(self, model: str) -> bool:
        """Whether a model is one that this run makes."""
        return Path(model).parent in (self.folder, self.shared) and Path(model).resolve() not in self.given

    @property
    def made(self) -> list[Path]:
        """Folders of the models that this run makes, whether they are there or not."""
        models = [*self.raw.values(), *self.tuned.values(), *self.filtered.values(), *map(self.model, self.methods)]
        return [Path(model) for model in dict.fromkeys(models) if self.makes(model)]

    @property
    def dropped(self) -> list[Path]:
        """The same without those that a comparison in this folder shares: `keep: best` deletes their weights."""
        if not (self.folder / COMPARISON).exists():
            return self.made
        return [model for model in self.made if model.name in self.methods]

    def shown(self, name: str) -> str:
        """The folder of a finished model, seen from the run's, for the table; of any other model its name."""
        model = self.model(name)
        return Path(model).name if self.makes(model) else short_name(model)

    def model(self, name: str) -> str:
        """The finished model of `teacher`, `student` or a method."""
        return self.tuned.get(name, str(self.folder / name))

    def loading(self, model: str) -> ModelArguments:
        """How a model is loaded: the config of one that this run has trained has the overrides in it."""
        if model in self.raw.values():
            return self.recipe.model
        return ModelArguments.trusting_as(self.recipe.model)
