"""A run is a folder that holds the stages of a recipe; those that are finished are skipped.

RUN/teacher_init                           a teacher of random weights, if the recipe asks for one (`from_scratch`)
RUN/student_init                           a student made of blocks of a model, usually the teacher in RUN/teacher
RUN/teacher  RUN/student                   fine-tuned models
RUN/teacher_filters  RUN/student_filters   the same models with their filters (Stage I)
RUN/alone                                  the student trained on the labels alone, as long as with the methods
RUN/kd  RUN/lwd  RUN/ted ...               distilled students (Stage II)
RUN/states-cache                           the teacher's outputs for each row, while the run lasts
RUN/scores                                 scores of models taken as they are, and on further data (`score_on`)
RUN/recipe.yaml  RUN/results.json  RUN/results.md
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import yaml
from accelerate import PartialState

from ..errors import InputError, collect, raise_if_any
from ..fast.states_cache import CACHE_NAME, remove_caches
from ..method.shapes import num_blocks
from ..models.load import ModelArguments, load_config
from ..models.scratch import make_from_scratch
from ..output import (
    MANIFEST_NAME,
    SETTINGS_NAME,
    atomic_files,
    check_writable,
    explain_full_disk,
    locked,
    refuse_busy,
    remove_leftovers,
    write_json,
)
from ..secrets import content_without_secrets
from ..stages.distill import open_distill
from ..stages.finetune import open_finetune
from ..stages.learn_filters import open_learn_filters
from ..stages.lifecycle import OpenStage, prepare, tidy_finished
from ..stages.methods import METHODS
from ..stages.retest import with_test_scores
from ..stages.stage_identity import Results, check_folder, stage_identity
from ..tasks import Task, load_task
from ..training.selection import scored_on
from ..training.stage_arguments import StageArguments
from .kept_scores import kept_scores
from .layout import filter_arguments, run_pairs, student_blocks
from .made_models import is_made, make_once, scratch_identity, student_identity
from .model_checks import check_models
from .narrowing import make_recipe_student
from .planning import Unknown, plan, plan_stages
from .recipe import FINETUNE, FROM_SCRATCH, LEARN_FILTERS, SCORE_ON, Recipe, score_on_arguments, stage_arguments
from .table import results_table
from .vocabularies import read_reader, run_tokenizers

logger = logging.getLogger(__name__)

_RECIPE_HEAD = "# The recipe of this run, as `ted run` read it.\n"


def run(recipe: Recipe) -> dict[str, Results]:
    """Run all stages of a recipe, except those that are finished, and write the table.

    Returns:
        Results of teacher, fine-tuned student and each method, by name.

    Raises:
        InputError, TrainingError: see the stages.
    """
    started = _Run(recipe)
    started.check()
    return started.results()


class _Run:
    """A recipe, and where in its folder each model is or will be."""

    def __init__(self, recipe: Recipe) -> None:
        self.folder = Path(str(recipe.run.output_dir))
        self.from_scratch = bool(recipe.content.get(FROM_SCRATCH))
        teacher = str(self.folder / "teacher_init") if self.from_scratch else str(recipe.run.teacher)
        self.read = recipe
        self.recipe = replace(recipe, run=replace(recipe.run, teacher=teacher))
        run = recipe.run
        self.task = load_task(recipe.task)
        entries = recipe.content.get(SCORE_ON, {})
        self.further: dict[str, Task] = {
            name: load_task(score_on_arguments(name, values)) for name, values in entries.items()
        }
        self.makes_student = run.makes_student
        tuned_teacher = str(self.folder / "teacher") if recipe.tunes("teacher") else teacher
        # Blocks of a teacher made from scratch are useful only after it has been trained.
        trained = run.start == "teacher" or self.from_scratch
        self.student_source = (tuned_teacher if trained else teacher) if run.made_of_teacher else run.student or teacher
        student = str(self.folder / "student_init") if self.makes_student else self.student_source
        self.raw = {"teacher": teacher, "student": student}
        self.tuned = {
            "teacher": tuned_teacher,
            "student": str(self.folder / "student") if recipe.tunes("student") else student,
        }
        self.start = student if run.start == "pretrained" else self.tuned["student"]
        self.filtered = {owner: str(self.folder / f"{owner}_filters") for owner in self.raw}
        self.finished: dict[str, Results] = {}
        """Results of the stages that `check` found finished; their input is finished too, so they stay valid."""

    # --- before anything is written -------------------------------------------------------------------------------

    def check(self) -> None:
        """Check everything that can be checked before the first stage. Writes nothing.

        Raises:
            InputError: with all problems.
        """
        problems: list[str] = []
        with collect(problems):
            check_writable(self.folder)
            refuse_busy(self.folder)
            self._check_folder()
        for task in (self.task, *self.further.values()):
            with collect(problems):
                task.rows  # noqa: B018  (reading them is what checks them)
        with collect(problems):
            # Of the recipe as it was read: a plan has a stand-in of its own for a teacher from scratch.
            planned = plan(self.read, self.task, tokenise=False)
            missing = [(owner, model) for owner, model in planned.models.items() if isinstance(model, Unknown)]
            problems += [f"{owner}: {model.why}" for owner, model in missing]
            plan_stages(planned)
        raise_if_any(problems)
        there = {owner: raw for owner, raw in self.raw.items() if self._is_there(raw)}
        with collect(problems):
            check_models(self.recipe, there, self.task)
        with collect(problems):
            self._check_made_models()
        for name in self.recipe.stages:
            with collect(problems):
                self._check_stage(name)
        raise_if_any(problems)

    def _check_folder(self) -> None:
        """Refuse a folder whose recipe or results were not written by a run."""
        file = self.folder / "recipe.yaml"
        held = ["recipe.yaml"] if file.is_file() else ["results.json", "results.md"]
        held = [name for name in held if (self.folder / name).exists()]
        if held and not (file.is_file() and file.read_text("utf-8", errors="replace").startswith(_RECIPE_HEAD)):
            raise InputError(
                f"output_dir: expected a new folder, or one of a run, got {self.folder}, where no run wrote "
                f"{', '.join(held)}; give another output_dir"
            )

    def _check_tokenizers(self) -> None:
        """Refuse a student that cannot read the teacher's tokens, if a method needs that."""
        teacher = read_reader(self.recipe, self.raw["teacher"])
        student = self.recipe.run.student
        run_tokenizers(self.recipe, self.task, teacher, read_reader(self.recipe, student) if student else teacher)

    def _check_made_models(self) -> None:
        if self.from_scratch:
            is_made(self.folder / "teacher_init", scratch_identity(self.recipe, self.task))
        student_is_made = (self.folder / "student_init" / MANIFEST_NAME).is_file()
        if self.makes_student and student_is_made and self._is_there(self.student_source):
            is_made(self.folder / "student_init", student_identity(self.recipe, self.student_source, self.task))

    def _check_stage(self, name: str) -> None:
        """Open a stage that was started earlier, or compare all but input that does not exist yet; check any other."""
        args = stage_arguments(self.recipe, name)[0]
        folder = Path(args.output_dir)
        if not (folder / SETTINGS_NAME).is_file():
            prepare(self.task, args)
            return
        if all(map(self._is_there, self._input(name))):
            stage = self._open(name)
            if stage.finished is not None:
                self.finished[name] = stage.finished
        else:
            kind = "finetune" if name in FINETUNE else "learn_filters" if name in LEARN_FILTERS else "distill"
            identity = stage_identity(kind, self.task, prepare(self.task, args))
            # Defaults that depend on the model are not known yet.
            known = {key: value for key, value in identity["arguments"].items() if value != "None"}
            check_folder(folder, {**identity, "arguments": known})

    def _is_there(self, model: str) -> bool:
        """Whether a model exists: one that this run makes has a manifest once it is complete."""
        return Path(model).parent != self.folder or (Path(model) / MANIFEST_NAME).is_file()

    # --- stages -----------------------------------------------------------------------------------------------------

    def results(self) -> dict[str, Results]:
        """Run all stages, then write the table.

        Raises:
            InputError: another process is working in the folder, or something that was not there before is wrong.
            TrainingError: the training went wrong, or a disk is full.
        """
        with locked(self.folder), explain_full_disk([self.folder]):
            return self._results()

    def _results(self) -> dict[str, Results]:
        self._record_recipe()
        if self.from_scratch:
            made, values = self.folder / "teacher_init", self.recipe.content[FROM_SCRATCH]
            identity = scratch_identity(self.recipe, self.task)
            make_once(made, identity, lambda folder: make_from_scratch(self.task, values, folder, identity["seed"]))
            self._check_tokenizers()
        results = {"teacher": self._fine_tuned("teacher")}
        if self.makes_student:
            self._make_student()
        results["student"] = self._fine_tuned("student")
        methods = self.recipe.run.methods
        stage_one = {owner: self._stage(f"learn_filters_{owner}") for owner in self.recipe.filter_learners}
        for method in methods:
            results[method] = self._stage(method)
            if learners := METHODS[method].learners(self.recipe.student_filters[method]):
                results[method]["stage_one_seconds"] = sum(stage_one[owner]["seconds"] for owner in learners)
        for name in results:
            results[name] |= self._scores_on(name)
        self._write_results(results)
        return results

    def _input(self, name: str) -> list[str]:
        """The input models of a stage: one, or teacher and student."""
        if name in FINETUNE:
            return [self.raw[name.rpartition("_")[2]]]
        if name in LEARN_FILTERS:
            return [self.tuned[name.rpartition("_")[2]]]
        learners = METHODS[name].learners(self.recipe.student_filters[name])
        return [
            self.filtered[owner] if owner in learners else known
            for owner, known in (("teacher", self.tuned["teacher"]), ("student", self.start))
        ]

    def _open(self, name: str) -> OpenStage:
        args, own = stage_arguments(self.recipe, name)
        models = self._input(name)
        if name in FINETUNE:
            return open_finetune(models[0], self.task, args, own)
        if name in LEARN_FILTERS:
            owner = name.rpartition("_")[2]
            if owner == "teacher":
                self._share_cache(args)
            filters = filter_arguments(self.recipe)[owner]
            return open_learn_filters(models[0], self.task, args, filters, self._loading(models[0]))
        self._share_cache(args)
        pairs = [f"{teacher}:{student}" for teacher, student in self.pairs]
        if own.of_method.matches_states and not any((own.pairs, own.filter_interval, own.teacher_filter_interval)):
            own.pairs = pairs
        if own.of_method.matches_relations and own.attention_pair is None and pairs:
            own.attention_pair = pairs[-1]
        teacher, student = models
        of_teacher, of_student = self._loading(teacher), self._loading(student)
        return open_distill(teacher, student, self.task, args, own, of_student, of_teacher)

    def _loading(self, model: str) -> ModelArguments:
        """How a model is loaded: what this run has trained holds the changes to its config already."""
        if model in self.raw.values():
            return self.recipe.model
        return ModelArguments(trust_remote_code=self.recipe.model.trust_remote_code)

    def _stage(self, name: str) -> Results:
        title = name.replace("_", " ")
        stage = None if name in self.finished else self._open(name)
        if stage is None:
            tidy_finished(Path(stage_arguments(self.recipe, name)[0].output_dir))
        if stage is None or stage.finished is not None:
            logger.warning("== %s is finished, skipped", title)
        else:
            logger.warning("== %s -> %s", title, stage.args.output_dir)
        if stage is not None:
            return stage.result()
        args = stage_arguments(self.recipe, name)[0]
        tested = name not in LEARN_FILTERS
        return (
            with_test_scores(self.finished[name], self.task, args, self.recipe.model) if tested else self.finished[name]
        )

    @cached_property
    def pairs(self) -> list[tuple[int, int]]:
        """The run's pairs."""
        return run_pairs(self.recipe)

    def _share_cache(self, args: StageArguments) -> None:
        """The teacher's outputs serve every stage and method of the run."""
        if args.cache_dir is None:
            args.cache_dir = str(self.folder / CACHE_NAME)

    def _make_student(self) -> None:
        source, made = self.student_source, self.folder / "student_init"
        blocks = student_blocks(self.recipe.run, num_blocks(load_config(source, self.recipe.model))) or []
        identity = student_identity(self.recipe, source, self.task)
        make_once(made, identity, lambda folder: make_recipe_student(self.recipe, source, blocks, folder, self.task))

    # --- scores -----------------------------------------------------------------------------------------------------

    def _fine_tuned(self, owner: str) -> Results:
        """Results of a fine-tuned model: from its fine-tuning here, or by scoring the given model."""
        name = f"finetune_{owner}"
        if name in self.recipe.stages:
            return self._stage(name)
        scores = self._scores(owner, self.raw[owner], self.task, owner)
        return {**scores, "metric": self.task.metric, "seconds": 0.0, "scored_on": scored_on(self.task)}

    def _scores_on(self, name: str) -> Results:
        """Scores of a finished model on the data of `score_on`, each under its name."""
        found: Results = {}
        for data, task in self.further.items():
            scores = self._scores(name, self.tuned.get(name, str(self.folder / name)), task, f"{name}_{data}")
            found |= {f"{data}_{key}": value for key, value in scores.items() if key != "parameters"}
        return found

    def _scores(self, name: str, model: str, task: Task, file: str) -> Results:
        args = stage_arguments(self.recipe, FINETUNE[0] if name != "student" else FINETUNE[1])[0]
        return kept_scores(self.folder / "scores" / f"{file}.json", model, task, args, self._loading(model))

    # --- files ------------------------------------------------------------------------------------------------------

    def _record_recipe(self) -> None:
        if PartialState().is_main_process:
            for folder in (self.folder, self.folder / "scores"):
                remove_leftovers(folder)
            text = yaml.safe_dump(content_without_secrets(self.recipe.content), sort_keys=False, allow_unicode=True)
            with atomic_files(self.folder) as partial:
                (partial / "recipe.yaml").write_text(_RECIPE_HEAD + text, encoding="utf-8")

    def _write_results(self, results: dict[str, Results]) -> None:
        if PartialState().is_main_process:
            with atomic_files(self.folder) as partial:
                write_json(partial / "results.json", results)
                (partial / "results.md").write_text(results_table(results) + "\n", encoding="utf-8")
            remove_caches(self.folder / CACHE_NAME)
