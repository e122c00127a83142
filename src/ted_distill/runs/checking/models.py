"""The models of a run as its stages will see them: loaded as they are now, with the shapes that they will have then.

What a stage trains is not there yet, and time and memory depend on shapes alone. So a teacher that is to be fine-tuned
stands in for itself, and a student made of its blocks is made of them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ...models.blocks import student_from_teacher
from ...models.load import LoadedModel, ModelArguments, load_model
from ...models.scratch import make_from_scratch, scratch_config
from ...tasks import Task
from ..planning import Plan, PlannedModel
from ..recipe import stage_arguments
from ..recipe_keys import FINETUNE, FROM_SCRATCH

_SEED = 0


@dataclass(frozen=True)
class Models:
    """Loads the teacher and the student of a recipe, each time anew: a stage changes the models that it is given."""

    plan: Plan
    task: Task
    """With the sampled rows."""

    def load(self, owner: str) -> LoadedModel:
        """`teacher` or `student`. Raises `InputError`, see `load_model`."""
        torch.manual_seed(_SEED)  # the same random weights each time
        if owner == "teacher":
            return self._loaded(self._teacher, "teacher")
        run = self.plan.recipe.run
        if not run.makes_student:
            return self._loaded(str(run.student), "student")
        # With the head of the teacher if it is made of the fine-tuned one, otherwise with a new one.
        like = "teacher" if run.start == "teacher" else "student"
        source = self._loaded(self._teacher if run.made_of_teacher else str(run.student), like)
        return replace(source, model=self._made(source.model))

    def _loaded(self, name: str, owner: str) -> LoadedModel:
        recipe = self.plan.recipe
        from_scratch = bool(recipe.content.get(FROM_SCRATCH))
        unfit = owner == "student" and recipe.run.start == "pretrained"
        new_head = recipe.tunes(owner) or from_scratch or unfit
        loaded = load_model(name, self.task, self._arguments(owner), new_head=new_head)
        if from_scratch and self._is_part:
            # The vocabulary of a few rows is smaller than that of all.
            size = scratch_config(recipe.content[FROM_SCRATCH]).vocab_size
            loaded.model.resize_token_embeddings(max(size, len(loaded.tokenizer)), mean_resizing=False)
        return loaded

    def _arguments(self, owner: str) -> ModelArguments:
        recipe = self.plan.recipe
        if not recipe.tunes(owner):
            return recipe.model
        arguments = stage_arguments(recipe, f"finetune_{owner}")[1]
        assert isinstance(arguments, ModelArguments)
        return arguments

    def _made(self, source: PreTrainedModel) -> PreTrainedModel:
        """A student of blocks of a model; a narrower one has random weights."""
        planned = self.plan.models["student"]
        assert isinstance(planned, PlannedModel)
        if self.is_narrowed:
            made = self.task.auto_model.from_config(planned.config, dtype=torch.float32)
            assert isinstance(made, PreTrainedModel)
            made.config.pad_token_id = source.config.pad_token_id
            return made
        return student_from_teacher(source, list(planned.kept_blocks or []))

    @property
    def is_narrowed(self) -> bool:
        """Whether the student is a narrower copy, whose weights are not made for a check."""
        return bool(self.plan.recipe.run.student_hidden_size)

    @property
    def _is_part(self) -> bool:
        """Whether the sample lacks some of the training rows."""
        return self.task.row_counts["train"] != self.plan.task.row_counts["train"]

    @property
    def _teacher(self) -> str:
        return str(self.plan.recipe.run.teacher)


def models_of(plan: Plan, task: Task, folder: Path) -> Models:
    """The models of a plan; a teacher from scratch is made here, with random weights and a vocabulary of the sample.

    Args:
        task: with sampled rows.
        folder: an empty one.
    """
    recipe = plan.recipe
    if values := recipe.content.get(FROM_SCRATCH):
        made = folder / "teacher_init"
        made.mkdir()
        make_from_scratch(task, values, made, stage_arguments(recipe, FINETUNE[0])[0].seed)
        plan = replace(plan, recipe=replace(recipe, run=replace(recipe.run, teacher=str(made))))
    return Models(plan, task)
