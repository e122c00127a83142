"""The steps of a run, each with those whose results it needs: what is done in order, side by side or by a cluster.

A step is a stage, a model that is made, or the scores of a model. It does the same wherever and whenever it is made, as
long as what it needs is there, and nothing if it was made before.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

from ..errors import raise_if_any
from ..fast.states_cache import CACHE_NAME
from ..identity import Identity
from ..method.shapes import num_blocks
from ..models.load import load_config
from ..models.scratch import make_from_scratch
from ..models.students import has_embeddings_of_another
from ..output import MANIFEST_NAME, SETTINGS_NAME, last_checkpoint, on_main, read_if_sound
from ..progress import Schedule, busy, current_display, part_of
from ..stages.distill import open_distill
from ..stages.finetune import open_finetune
from ..stages.learn_filters import open_learn_filters
from ..stages.lifecycle import OpenStage, tidy_finished
from ..stages.methods import METHODS
from ..stages.retest import with_test_scores
from ..stages.stage_identity import Results
from ..tasks import Task
from ..training.scores.selection import scored_on
from ..training.stage_arguments import StageArguments
from ..wording import listed
from .further_data import offer_run_data
from .graph import Node
from .kept_predictions import Predictions, kept_predictions
from .kept_scores import kept_scores
from .made_models import make_once, scratch_identity, student_identity
from .matching import fill_pairs, filter_arguments, run_pairs, student_blocks
from .narrowing import make_recipe_student
from .recipe import Recipe
from .recipe_keys import FINETUNE, FROM_SCRATCH, OWNERS
from .recorded import read_commits
from .run_folder import STUDENT_INIT, TEACHER_INIT, RunFolder
from .run_task import further_tasks, task_of_run
from .step_records import STAGES, Kind, Step, all_steps, nodes_of
from .vocabularies import read_reader, run_tokenizers

logger = logging.getLogger(__name__)

_CONTENT = ("backbone", "head", "tokenizer")
"""Parts of the identity of a model that are the content of its files."""


class Steps:
    """A recipe's steps in its folder."""

    def __init__(self, recipe: Recipe, shared: Path | None = None, task: Task | None = None) -> None:
        self.read = recipe
        self.at = RunFolder(recipe, shared)
        read_commits(self.at.shared)
        self.recipe = self.at.recipe
        self.task = task_of_run(recipe, task)
        self.further = further_tasks(recipe)
        self.schedule = Schedule(recipe.stages)
        self.finished: dict[str, Results] = {}
        """Results of stages that are known to be finished, and so is their input: they stay valid."""

    # --- which there are, and what they need ----------------------------------------------------------------------

    @cached_property
    def by_name(self) -> dict[str, Step]:
        """All steps in the order in which one process makes them."""
        return {step.name: step for step in all_steps(self.at, self.further)}

    @cached_property
    def nodes(self) -> list[Node]:
        """The same, each with those that it needs."""
        return nodes_of(list(self.by_name.values()))

    @property
    def models(self) -> list[str]:
        """Teacher, student and methods: the rows of the table."""
        return [*OWNERS, *self.recipe.run.methods]

    @property
    def is_quiet(self) -> bool:
        """Whether no stage shows its progress."""
        return all(self.at.arguments(name)[0].disable_tqdm for name in self.recipe.stages)

    def tuning(self, owner: str) -> str:
        """The step that gives the scores of a fine-tuned model: its fine-tuning, or scoring it as it is given."""
        return self._named(owner, Kind.FINETUNE, Kind.SCORE)

    def is_shared(self, name: str) -> bool:
        """Whether a step is the same for all runs that share a folder: everything but the methods and their scores."""
        return self.by_name[name].shared

    def _named(self, of: str, *kinds: Kind, data: str = "") -> str:
        """The name of the step of a model that is of one of these kinds."""
        steps = self.by_name.values()
        return next(step.name for step in steps if step.of == of and step.kind in kinds and step.data == data)

    # --- one step ---------------------------------------------------------------------------------------------------

    def make(self, name: str) -> Results:
        """Make a step, unless that was done before; its results, nothing for a model that is only made.

        Raises:
            InputError, TrainingError: see the stages.
        """
        step = self.by_name[name]
        if step.kind is Kind.TEACHER_INIT:
            self._make_teacher()
            return {}
        if step.kind is Kind.STUDENT_INIT:
            self._make_student()
            return {}
        if step.kind is Kind.SCORE:
            scores = self._scores(step, self.task, step.of)
            return {**scores, "metric": self.task.metric, "seconds": 0.0, "scored_on": scored_on(self.task)}
        if step.kind is Kind.SCORE_ON:
            offer_run_data(self.task, self.further[step.data])
            scores = self._scores(step, self.further[step.data], f"{step.of}_{step.data}")
            return {f"{step.data}_{key}": value for key, value in scores.items() if key != "parameters"}
        return self._stage(name)

    def table(self, made: dict[str, Results]) -> dict[str, Results]:
        """The rows of the table, from the results of all steps."""
        results = {owner: dict(made[self.tuning(owner)]) for owner in OWNERS}
        for method in self.recipe.run.methods:
            results[method] = dict(made[method])
            if learners := METHODS[method].learners(self.recipe.student_filters[method]):
                stage_one = [made[self._named(owner, Kind.LEARN_FILTERS)] for owner in learners]
                results[method]["stage_one_seconds"] = sum(stage["seconds"] for stage in stage_one)
        for name in results:
            for data in self.further:
                added = made[self._named(name, Kind.SCORE_ON, data=data)]
                assert not results[name].keys() & added.keys(), data  # `check_further` has refused such a name
                results[name] |= added
            results[name]["folder"] = self.at.shown(name)
        return results

    def predictions(self, name: str) -> Predictions:
        """Predictions of a finished model on the rows that are reported: kept ones, or new ones that are kept."""
        folder = self.at.folder if name in self.at.methods else self.at.shared
        args = self.at.arguments(name if name in self.at.methods else f"finetune_{name}")[0]
        model = self.at.model(name)
        return kept_predictions(folder / "predictions" / name, model, self.task, args, self.at.loading(model))

    # --- stages -----------------------------------------------------------------------------------------------------

    def _open(self, name: str) -> OpenStage:
        """A stage, opened; its models that are not of this run are those that the other stages have read.

        Raises:
            InputError: see the stages; or one of these models has changed since.
        """
        stage = self._opened(name)
        if stage.finished is None:
            raise_if_any(on_main(lambda: self._models_that_changed(name, stage.identity)))
        return stage

    def _models_that_changed(self, name: str, identity: Identity) -> list[str]:
        """Models that this run does not make and that another of its stages has read with other content."""
        step, problems = self.by_name[name], []
        others = [other for other in self.by_name.values() if other.kind in STAGES and other is not step]
        for role, model in step.by_role.items():
            for other in others if not self.at.makes(model) else []:
                # A fine-tuning may give a model another head as it loads it.
                tuned = step.kind is not other.kind and Kind.FINETUNE in (step.kind, other.kind)
                parts = [part for part in _CONTENT if not (tuned and part == "head")]
                then = self._as_read(other, model)
                if changed := [part for part in parts if part in then and then[part] != identity[role][part]]:
                    problems.append(
                        f"{role}: expected {model} as it was for stage {other.name}, got another {listed(changed)} for "
                        f"stage {name}; put it back as it was (of the Hub: set model_revision to a commit), or give "
                        "another output_dir"
                    )
                    break
        return problems

    def _as_read(self, stage: Step, model: str) -> Identity:
        """A model as a stage has read it; empty if it has not."""
        folder = Path(self.at.arguments(stage.name)[0].output_dir)
        # What was cut off before it had anything to lose is begun anew, with whatever is there then.
        if not (read_if_sound(folder / MANIFEST_NAME) or last_checkpoint(folder)):
            return {}
        known = read_if_sound(folder / SETTINGS_NAME).get("identity", {})
        return next((dict(known.get(role, {})) for role, name in stage.by_role.items() if name == model), {})

    def _opened(self, name: str) -> OpenStage:
        step = self.by_name[name]
        args, own = self.at.arguments(name)
        if step.kind is Kind.FINETUNE:
            return open_finetune(step.inputs[0], self.task, args, own)
        if step.kind is Kind.LEARN_FILTERS:
            (model,) = step.inputs
            if step.of == "teacher":
                self._share_cache(args)
            filters = filter_arguments(self.recipe)[step.of]
            return open_learn_filters(model, self.task, args, filters, self.at.loading(model))
        self._share_cache(args)
        fill_pairs(own, self.pairs)
        teacher, student = step.inputs
        of_teacher, of_student = self.at.loading(teacher), self.at.loading(student)
        # Without a teacher, as with one: all methods train the same weights. A teacher that the run fine-tunes, which
        # need not be there yet, has other word embeddings than any given student.
        unlike = not METHODS[name].needs_teacher and own.train_embeddings is None and not self.at.makes_student
        if unlike and (self.recipe.tunes("teacher") or has_embeddings_of_another(student, teacher, of_teacher)):
            own.train_embeddings = True
        return open_distill(teacher, student, self.task, args, own, of_student, of_teacher)

    def _stage(self, name: str) -> Results:
        """Results of a stage: read, or computed by running it."""
        with current_display().show_stage(name):
            results = self._stage_results(name)
        self.schedule.finished(name, results)
        return results

    def _stage_results(self, name: str) -> Results:
        title = name.replace("_", " ")
        with busy("loading"):
            stage = None if name in self.finished else self._open(name)
        if stage is None:
            tidy_finished(Path(self.at.arguments(name)[0].output_dir))
        if stage is None or stage.finished is not None:
            logger.warning("== %s is finished, skipped", title)
        else:
            number, total = self.schedule.place(name)
            of = f"{part_of()}, " if part_of() else ""
            logger.warning("== %s -> %s (%sstage %d of %d)", title, stage.args.output_dir, of, number, total)
        if stage is not None:
            return stage.result()
        args = self.at.arguments(name)[0]
        if self.by_name[name].kind is Kind.LEARN_FILTERS:
            return self.finished[name]
        return with_test_scores(self.finished[name], self.task, args, self.recipe.model)

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The run's pairs."""
        return run_pairs(self.recipe)

    def _share_cache(self, args: StageArguments) -> None:
        """The teacher's outputs serve every stage and method of the run."""
        if args.cache_dir is None:
            args.cache_dir = str(self.at.shared / CACHE_NAME)

    def _make_teacher(self) -> None:
        values, identity = self.recipe.content[FROM_SCRATCH], scratch_identity(self.recipe, self.task)
        made = self.at.shared / TEACHER_INIT
        make_once(made, identity, lambda folder: make_from_scratch(self.task, values, folder, identity["seed"]))
        self._check_tokenizers()

    def _check_tokenizers(self) -> None:
        """Refuse a student that cannot read the teacher's tokens, if a method needs that."""
        teacher = read_reader(self.recipe, self.at.raw["teacher"], self.task)
        named = self.recipe.run.student
        student = read_reader(self.recipe, named, self.task) if named else teacher
        run_tokenizers(self.recipe, self.task, teacher, student)

    def _make_student(self) -> None:
        source, made = self.at.student_source, self.at.shared / STUDENT_INIT
        blocks = student_blocks(self.recipe, num_blocks(load_config(source, self.recipe.model, self.task))) or []
        identity = student_identity(self.recipe, source, self.task)
        with busy("making the student"):
            make_once(
                made, identity, lambda folder: make_recipe_student(self.recipe, source, blocks, folder, self.task)
            )

    # --- scores -----------------------------------------------------------------------------------------------------

    def _scores(self, step: Step, task: Task, file: str) -> Results:
        (model,) = step.inputs
        args = self.at.arguments(FINETUNE[0] if step.of != "student" else FINETUNE[1])[0]
        folder = self.at.shared if step.shared else self.at.folder
        return kept_scores(folder / "scores" / f"{file}.json", model, task, args, self.at.loading(model))
