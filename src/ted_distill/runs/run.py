"""A run: all stages of a recipe in one folder, except those that are finished."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import yaml
from accelerate import PartialState

from ..errors import InputError, collect, raise_if_any
from ..fast.states_cache import CACHE_NAME, remove_caches
from ..method.shapes import num_blocks
from ..models.load import load_config
from ..models.scratch import make_from_scratch
from ..output import (
    MANIFEST_NAME,
    SETTINGS_NAME,
    atomic_files,
    check_writable,
    explain_full_disk,
    locked,
    on_main,
    refuse_busy,
    remove_leftovers,
    write_json,
)
from ..progress import Schedule, busy, current_display, logged_into, remembering, showing
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
from .best_model import (
    best_method,
    bytes_below,
    drop_steps,
    drop_weights,
    kept_results,
    publish_best,
    refuse_foreign_best,
)
from .checking import Report, examine
from .checking.examine import BRIEF, WHOLE
from .checking.undisturbed import silent, undisturbed
from .gates import require
from .kept_scores import kept_scores
from .layout import fill_pairs, filter_arguments, run_pairs, student_blocks
from .made_models import is_made, make_once, scratch_identity, student_identity
from .model_checks import check_models
from .narrowing import make_recipe_student
from .planning import Unknown, plan, plan_stages, with_data
from .recipe import FINETUNE, FROM_SCRATCH, LEARN_FILTERS, OWNERS, SCORE_ON, Recipe, score_on_arguments
from .run_folder import RunFolder
from .schedule import run_schedule
from .table import BEST, results_table
from .trimming import publish_trimmed_best
from .vocabularies import read_reader, run_tokenizers

logger = logging.getLogger(__name__)

RECIPE_HEAD = "# The recipe of this run, as `ted run` read it.\n"


@remembering()
def run(
    recipe: Recipe,
    shared: Path | None = None,
    task: Task | None = None,
    before_dropping: Callable[[Path], object] = lambda folder: None,
) -> dict[str, Results]:
    """Run all stages of a recipe, except those that are finished, write the table, and copy the best student to `best`.

    Args:
        shared: a folder for what several runs have in common: all stages but the methods (see `RunFolder`).
        task: with rows of its own [the recipe's].
        before_dropping: called with the run's folder once all is done, while all models are still there.

    A run that starts anew looks at its models first, briefly, unless the recipe says `check: false`: it warns of a
    teacher that does not know the task and says how long it will take.

    Returns:
        Results of teacher, fine-tuned student and each method, by name.

    Raises:
        InputError, TrainingError: see the stages.
        GateError: a requirement of the recipe does not hold.
    """
    started = _Run(recipe, shared, task)
    results = kept_results(started.at.folder, recipe, started.task)
    if results is None:
        started.check()
        if recipe.run.check and shared is None and not started.is_resumed:
            started.look()
        results = started.results(before_dropping)
    else:
        on_main(lambda: drop_weights(started.at.made))  # what a kill left of them
    require(recipe.run.require or [], results)
    return results


def look_first(recipe: Recipe, shared: Path, task: Task) -> None:
    """The checks of a run, and its brief look at the models, before anything is written.

    Raises:
        InputError: with all problems.
    """
    started = _Run(recipe, shared, task)
    started.check()
    if recipe.run.check and not started.is_resumed:
        started.look()


def check_recipe(recipe: Recipe, task: Task | None = None) -> Report:
    """What `ted check` finds out about a recipe: its models are loaded, scored on a few rows and trained a few steps.

    Nothing is written, and nothing changes for a run that follows.

    Args:
        task: with rows of its own [the recipe's].

    Returns:
        Facts, doubts and problems; `report.raise_problems()` refuses a recipe with problems.

    Raises:
        InputError: the recipe is refused without any of this.
    """
    with undisturbed(), silent() as said:
        started = _Run(recipe, task=task)
        started.check()
        planned = with_data(started.planned)
    return examine(planned, WHOLE, said)


class _Run:
    """A recipe at work in its folder."""

    def __init__(self, recipe: Recipe, shared: Path | None = None, task: Task | None = None) -> None:
        self.read = recipe
        self.at = RunFolder(recipe, shared)
        self.recipe = self.at.recipe
        self.task = load_task(recipe.task) if task is None else task
        entries = recipe.content.get(SCORE_ON, {})
        self.further: dict[str, Task] = {
            name: load_task(score_on_arguments(name, values)) for name, values in entries.items()
        }
        self.schedule = Schedule(recipe.stages)
        self.finished: dict[str, Results] = {}
        """Results of the stages that `check` found finished; their input is finished too, so they stay valid."""

    # --- before anything is written -------------------------------------------------------------------------------

    def check(self) -> None:
        """Check everything that can be checked before the first stage, and plan it. Writes nothing.

        Raises:
            InputError: with all problems.
        """
        problems: list[str] = []
        with collect(problems):
            check_writable(self.at.folder)
            refuse_busy(self.at.folder)
            self._check_folder()
        with collect(problems):
            refuse_foreign_best(self.at.folder)
        for task in (self.task, *self.further.values()):
            with collect(problems):
                task.rows  # noqa: B018  (reading them is what checks them)
        with collect(problems):
            # Of the recipe as it was read: a plan has a stand-in of its own for a teacher from scratch.
            self.planned = planned = plan(self.read, self.task, tokenise=False)
            missing = [(owner, model) for owner, model in planned.models.items() if isinstance(model, Unknown)]
            problems += [f"{owner}: {model.why}" for owner, model in missing]
            self.schedule = run_schedule(plan_stages(planned))
        raise_if_any(problems)
        there = {owner: raw for owner, raw in self.at.raw.items() if self._is_there(raw)}
        with collect(problems):
            check_models(self.recipe, there, self.task)
        with collect(problems):
            self._check_made_models()
        for name in self.recipe.stages:
            with collect(problems):
                self._check_stage(name)
        raise_if_any(problems)

    @property
    def is_resumed(self) -> bool:
        """Whether a stage was started earlier: a run that goes on was looked at when it began."""
        folders = [Path(self.at.arguments(name)[0].output_dir) for name in self.recipe.stages]
        return any((folder / SETTINGS_NAME).is_file() for folder in folders)

    def look(self) -> None:
        """Say what a brief check finds: scores of a given teacher, the time of a longer run, doubts.

        Raises:
            InputError: problems, such as too little memory.
        """
        report = examine(with_data(self.planned), BRIEF)
        if PartialState().is_main_process and (found := report.summary()):
            logger.warning("%s", found)
        report.raise_problems()

    def _check_folder(self) -> None:
        """Refuse a folder whose recipe or results were not written by a run."""
        file = self.at.folder / "recipe.yaml"
        held = ["recipe.yaml"] if file.is_file() else ["results.json", "results.md"]
        held = [name for name in held if (self.at.folder / name).exists()]
        if held and not (file.is_file() and file.read_text("utf-8", errors="replace").startswith(RECIPE_HEAD)):
            raise InputError(
                f"output_dir: expected a new folder, or one of a run, got {self.at.folder}, where no run wrote "
                f"{', '.join(held)}; give another output_dir"
            )

    def _check_tokenizers(self) -> None:
        """Refuse a student that cannot read the teacher's tokens, if a method needs that."""
        teacher = read_reader(self.recipe, self.at.raw["teacher"])
        student = self.recipe.run.student
        run_tokenizers(self.recipe, self.task, teacher, read_reader(self.recipe, student) if student else teacher)

    def _check_made_models(self) -> None:
        if self.at.from_scratch:
            is_made(self.at.shared / "teacher_init", scratch_identity(self.recipe, self.task))
        student_is_made = (self.at.shared / "student_init" / MANIFEST_NAME).is_file()
        if self.at.makes_student and student_is_made and self._is_there(self.at.student_source):
            is_made(self.at.shared / "student_init", student_identity(self.recipe, self.at.student_source, self.task))

    def _check_stage(self, name: str) -> None:
        """Open a stage that was started earlier, or compare all but input that does not exist yet; check any other."""
        args = self.at.arguments(name)[0]
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
        return not self.at.makes(model) or (Path(model) / MANIFEST_NAME).is_file()

    # --- stages -----------------------------------------------------------------------------------------------------

    def results(self, before_dropping: Callable[[Path], object]) -> dict[str, Results]:
        """Run all stages, then write the table, and keep what the recipe says.

        Raises:
            InputError: another process is working in the folder, or something that was not there before is wrong.
            TrainingError: the training went wrong, or a disk is full.
        """
        quiet = all(self.at.arguments(name)[0].disable_tqdm for name in self.recipe.stages)
        folder = self.at.folder
        with locked(folder), explain_full_disk([folder]), logged_into(folder), showing(self.schedule, quiet=quiet):
            results = self._results()
            before_dropping(folder)
            if self.at.shared == folder:
                logger.warning("%s has %.1f MB on disk", folder, bytes_below(folder) / 1e6)
            if self.recipe.run.keep == "best" and self.at.shared == folder:
                on_main(lambda: drop_steps(self.at.made, self.read, self.task, results))
            return results

    def _results(self) -> dict[str, Results]:
        self._record_recipe()
        if self.at.from_scratch:
            made, values = self.at.shared / "teacher_init", self.recipe.content[FROM_SCRATCH]
            identity = scratch_identity(self.recipe, self.task)
            make_once(made, identity, lambda folder: make_from_scratch(self.task, values, folder, identity["seed"]))
            self._check_tokenizers()
        results = {"teacher": self._fine_tuned("teacher")}
        current_display().teacher = results["teacher"]
        if self.at.makes_student:
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
            results[name]["folder"] = self.at.shown(name)
        best = best_method(results, methods, self.task)
        if best is not None and self.at.shared == self.at.folder:
            self._publish_best(best, results[best])
        self._write_results(results)
        return results

    def _publish_best(self, best: str, results: Results) -> None:
        """Publish the best student as RUN/best, with fewer tokens and its scores with these if the recipe says so."""
        folder = self.at.folder
        results["best"] = True
        trim = self.recipe.run.student_trim is not None
        loading = self.at.loading(self.at.model(best))
        trimmed = on_main(lambda: publish_trimmed_best(folder, best, self.task, loading)) if trim else None
        if trimmed is None:
            on_main(lambda: publish_best(folder, best))
            return
        args = self.at.arguments(best)[0]
        scores = kept_scores(folder / "scores" / f"{BEST}.json", str(folder / BEST), self.task, args, loading)
        results["trimmed"] = {**scores, "tokens": trimmed["after"]["tokens"], "of_tokens": trimmed["before"]["tokens"]}

    def _input(self, name: str) -> list[str]:
        """The input models of a stage: one, or teacher and student."""
        if name in FINETUNE:
            return [self.at.raw[name.rpartition("_")[2]]]
        if name in LEARN_FILTERS:
            return [self.at.tuned[name.rpartition("_")[2]]]
        learners = METHODS[name].learners(self.recipe.student_filters[name])
        return [
            self.at.filtered[owner] if owner in learners else known
            for owner, known in (("teacher", self.at.tuned["teacher"]), ("student", self.at.start))
        ]

    def _open(self, name: str) -> OpenStage:
        args, own = self.at.arguments(name)
        models = self._input(name)
        if name in FINETUNE:
            return open_finetune(models[0], self.task, args, own)
        if name in LEARN_FILTERS:
            owner = name.rpartition("_")[2]
            if owner == "teacher":
                self._share_cache(args)
            filters = filter_arguments(self.recipe)[owner]
            return open_learn_filters(models[0], self.task, args, filters, self.at.loading(models[0]))
        self._share_cache(args)
        fill_pairs(own, self.pairs)
        teacher, student = models
        of_teacher, of_student = self.at.loading(teacher), self.at.loading(student)
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
            logger.warning("== %s -> %s (stage %d of %d)", title, stage.args.output_dir, number, total)
        if stage is not None:
            return stage.result()
        args = self.at.arguments(name)[0]
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
            args.cache_dir = str(self.at.shared / CACHE_NAME)

    def _make_student(self) -> None:
        source, made = self.at.student_source, self.at.shared / "student_init"
        blocks = student_blocks(self.recipe.run, num_blocks(load_config(source, self.recipe.model))) or []
        identity = student_identity(self.recipe, source, self.task)
        with busy("making the student"):
            make_once(
                made, identity, lambda folder: make_recipe_student(self.recipe, source, blocks, folder, self.task)
            )

    # --- scores -----------------------------------------------------------------------------------------------------

    def _fine_tuned(self, owner: str) -> Results:
        """Results of a fine-tuned model: from its fine-tuning here, or by scoring the given model."""
        name = f"finetune_{owner}"
        if name in self.recipe.stages:
            return self._stage(name)
        scores = self._scores(owner, self.at.raw[owner], self.task, owner)
        return {**scores, "metric": self.task.metric, "seconds": 0.0, "scored_on": scored_on(self.task)}

    def _scores_on(self, name: str) -> Results:
        """Scores of a finished model on the data of `score_on`, each under its name."""
        found: Results = {}
        for data, task in self.further.items():
            scores = self._scores(name, self.at.model(name), task, f"{name}_{data}")
            found |= {f"{data}_{key}": value for key, value in scores.items() if key != "parameters"}
        return found

    def _scores(self, name: str, model: str, task: Task, file: str) -> Results:
        args = self.at.arguments(FINETUNE[0] if name != "student" else FINETUNE[1])[0]
        folder = self.at.shared if name in OWNERS else self.at.folder
        return kept_scores(folder / "scores" / f"{file}.json", model, task, args, self.at.loading(model))

    # --- files ------------------------------------------------------------------------------------------------------

    def _record_recipe(self) -> None:
        if PartialState().is_main_process:
            for folder in (self.at.folder, self.at.folder / "scores", self.at.shared / "scores"):
                remove_leftovers(folder)
            text = yaml.safe_dump(content_without_secrets(self.recipe.content), sort_keys=False, allow_unicode=True)
            with atomic_files(self.at.folder) as partial:
                (partial / "recipe.yaml").write_text(RECIPE_HEAD + text, encoding="utf-8")

    def _write_results(self, results: dict[str, Results]) -> None:
        if PartialState().is_main_process:
            with atomic_files(self.at.folder) as partial:
                write_json(partial / "results.json", results)
                (partial / "results.md").write_text(results_table(results) + "\n", encoding="utf-8")
            # Other runs need one that is shared.
            remove_caches(self.at.folder / CACHE_NAME)
