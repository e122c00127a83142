"""A run: all stages of a recipe in one folder, except those that are finished."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from accelerate import PartialState

from ..errors import InputError, collect, nearest, raise_if_any, shown
from ..fast.states_cache import CACHE_NAME, remove_caches
from ..identity import data_commit
from ..models.load import load_config
from ..models.trying.known import knowing_models
from ..output import (
    MANIFEST_NAME,
    SETTINGS_NAME,
    atomic_files,
    check_writable,
    explain_full_disk,
    locked,
    on_main,
    refuse_busy,
    refuse_own_folder,
    remove_leftovers,
    write_json,
)
from ..progress import current_display, logged_into, remembering, showing
from ..stages.lifecycle import prepare
from ..stages.stage_identity import Results, check_folder, said_together, stage_identity
from ..tasks import Task
from ..training.stage_arguments import StageArguments
from ..wording import size
from .best_model import best_method, best_problems, publish_best, refuse_foreign_best
from .checking import Report, examine
from .checking.examine import BRIEF, WHOLE
from .checking.undisturbed import silent, undisturbed
from .dropped_models import bytes_below, drop_steps, drop_weights, kept_results
from .further_data import check_further
from .gates import check_scores, require, scores_of_run, with_best
from .kept_scores import kept_scores
from .made_models import is_made, scratch_identity, student_identity
from .model_checks import check_models
from .planning import Unknown, plan, plan_stages, with_data
from .recipe import Recipe
from .recorded import RECIPE_NAME, in_memory, record_commits, recorded_text, refuse_unrecorded
from .run_folder import STUDENT_INIT, TEACHER_INIT
from .schedule import run_schedule
from .side_by_side.node_graph import Started, make_together, refuse_several
from .steps import Steps
from .table import BEST, results_table
from .trimming import publish_trimmed_best

logger = logging.getLogger(__name__)

RECIPE_HEAD = "# The recipe of this run, as `ted run` read it.\n"


@remembering()
@knowing_models()
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
    started = RunOfRecipe(recipe, shared, task)
    results = kept_results(started.at.folder, recipe, started.task, started.further)
    if results is None:
        started.check()
        if recipe.run.check and shared is None and not started.is_resumed:
            started.look()
        results = started.results(before_dropping)
    else:
        on_main(lambda: drop_weights(started.at.dropped))  # what a kill left of them
    require(recipe.run.require or [], with_best(results), results)
    return results


def look_first(recipe: Recipe, shared: Path, task: Task) -> None:
    """The checks of a run, and its brief look at the models, before anything is written.

    Raises:
        InputError: with all problems.
    """
    started = RunOfRecipe(recipe, shared, task)
    started.check()
    if recipe.run.check and not started.is_resumed:
        started.look()


@remembering()
@knowing_models()
def make_step(recipe: Recipe, name: str) -> Results:
    """Make one step of a run, unless it is there already: a stage, a model that is made, scores.

    Several processes may make different steps of a run at once. `run` finds all of them made, and writes the table.
    Of a finished run whose models were dropped (`keep: best`), nothing is made, and there are no results.

    Raises:
        InputError: no such step, or one that it needs was not made; and see the stages.
        TrainingError: see the stages.
    """
    started = RunOfRecipe(recipe)
    started.check_name(name)
    if kept_results(started.at.folder, recipe, started.task, started.further) is not None:
        return {}
    started.check_step(name)
    started.pin_names()
    with showing(started.schedule, quiet=started.is_quiet):
        return started.make(name)


@knowing_models()
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
        started = RunOfRecipe(recipe, task=task)
        started.check()
        planned = with_data(started.planned)
    return examine(planned, WHOLE, said)


class RunOfRecipe(Steps):
    """A recipe at work in its folder."""

    def __init__(self, recipe: Recipe, shared: Path | None = None, task: Task | None = None) -> None:
        super().__init__(recipe, shared, task)
        self.rows = task
        """The task, if its rows may not be those that the recipe names."""
        self.given: dict[str, Results] | None = None
        """Results of steps that were made elsewhere; None while that is not known."""
        self.steps_made: dict[str, Results] = {}
        """Results of all steps."""

    # --- before anything is written -------------------------------------------------------------------------------

    def check(self, together: bool = True) -> None:
        """Check everything that can be checked before the first stage, and plan it. Writes nothing.

        Args:
            together: say what several stages have wrong alike once.

        Raises:
            InputError: with all problems.
        """
        problems: list[str] = []
        with collect(problems):
            refuse_several(self.recipe)
            check_writable(self.at.folder)
            refuse_busy(self.at.folder)
            self._check_folder()
        with collect(problems):
            refuse_foreign_best(self.at.folder)
        with collect(problems):
            self.task.rows  # noqa: B018  (reading them is what checks them)
        with collect(problems):
            check_further(self.task, self.further, self.at)
            known = scores_of_run(self.task, self.further)
            check_scores(self.recipe.run.require or [], known, self.task.lower_is_better)
        with collect(problems):
            # Of the recipe as it was read: a plan has a stand-in of its own for a teacher from scratch.
            self.planned = planned = plan(self.read, self.task, tokenise=False)
            missing = [(owner, model) for owner, model in planned.models.items() if isinstance(model, Unknown)]
            problems += [f"{owner}: {model.why}" for owner, model in missing]
            self.schedule = run_schedule(plan_stages(planned))
        if self.at.shared == self.at.folder:
            with collect(problems):
                raise_if_any(best_problems(self.recipe, self.task))
        raise_if_any(problems)
        if not self.given:  # otherwise another run has begun with the same models
            raw = dict(self.at.raw)
            if self.at.makes_student and self.at.start == raw["student"]:
                raw["student"] = self.at.student_source  # whose head the student will have
            there = {owner: model for owner, model in raw.items() if self._is_there(model)}
            with collect(problems):
                check_models(self.recipe, there, self.task)
            with collect(problems):
                self._check_made_models()
        for name in self.recipe.stages:
            if name not in (self.given or {}):
                with collect(problems):
                    self._check_stage(name)
        # The main process goes on to write what the others have only now looked for.
        PartialState().wait_for_everyone()
        raise_if_any(said_together(problems) if together else problems)

    def check_name(self, name: str) -> None:
        """Refuse the name of a step that the run does not have. Raises `InputError`."""
        if name not in self.by_name:
            near = nearest(name, self.by_name) or "; `ted plan` has them"
            raise InputError(f"only: expected one of {', '.join(self.by_name)}, got {shown(name)}{near}")

    def check_step(self, name: str) -> None:
        """Check only what one step needs: other processes may be working on the others.

        Raises:
            InputError: with all problems.
        """
        self._check_folder()
        node = next(node for node in self.nodes if node.name == name)
        missing = [need for need in node.needs if not self._is_made(need)]
        raise_if_any(
            f"only: expected {need} to be finished before {name}, got no model of it; run it first" for need in missing
        )

    def pin_names(self) -> None:
        """Agree with the processes that make other steps of this run on what names on the Hub stand for."""
        check_writable(self.at.shared)
        for task in (self.task, *self.further.values()):
            if task.hub_data:
                data_commit(task.hub_data, task.arguments.dataset_revision)
        for name in self.recipe.models.values():
            with suppress(InputError):  # which is for the step to say
                load_config(name, self.recipe.model)
        record_commits(self.at.shared)

    def _is_made(self, name: str) -> bool:
        """Whether everything that other steps read of a step is there."""
        made = self.by_name[name].makes
        return made is None or (Path(made) / MANIFEST_NAME).is_file()

    @property
    def is_resumed(self) -> bool:
        """Whether a stage was started earlier: a resumed run was checked when it began."""
        return self._any_begun(self.recipe.stages)

    @property
    def has_begun(self) -> bool:
        """Whether a stage that is this run's own was started earlier."""
        return self._any_begun([name for name in self.recipe.stages if not self.is_shared(name)])

    def _any_begun(self, stages: Sequence[str]) -> bool:
        folders = [Path(self.at.arguments(name)[0].output_dir) for name in stages]
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
        """Refuse the folder of a given model, and one whose recipe or results were not written by a run."""
        refuse_own_folder(self.at.shared, self.recipe.models.values())
        has_recipe = (self.at.folder / RECIPE_NAME).is_file()
        names = [RECIPE_NAME] if has_recipe else ["results.json", "results.md"]
        refuse_unrecorded(self.at.folder, names, RECIPE_HEAD, "run")

    def _check_made_models(self) -> None:
        if self.at.from_scratch:
            is_made(self.at.shared / TEACHER_INIT, scratch_identity(self.recipe, self.task))
        student_is_made = (self.at.shared / STUDENT_INIT / MANIFEST_NAME).is_file()
        if self.at.makes_student and student_is_made and self._is_there(self.at.student_source):
            is_made(self.at.shared / STUDENT_INIT, student_identity(self.recipe, self.at.student_source, self.task))

    def _check_stage(self, name: str) -> None:
        """Open a stage that was started earlier, or compare all but input that does not exist yet; check any other."""
        args = self.at.arguments(name)[0]
        folder = Path(args.output_dir)
        if not (folder / SETTINGS_NAME).is_file():
            prepare(self.task, args)
            return
        if all(map(self._is_there, self.by_name[name].inputs)):
            stage = self._open(name)
            if stage.finished is not None:
                self.finished[name] = stage.finished
        else:
            kind = self.by_name[name].kind
            identity = stage_identity(kind.value, self.task, prepare(self.task, args))
            # Defaults that depend on the model are not known yet, nor whether it runs in autocast.
            unknown = {key for key, value in identity["arguments"].items() if value == "None"} | {"bf16", "fp16"}
            known = {key: value for key, value in identity["arguments"].items() if key not in unknown}
            check_folder(folder, {**identity, "arguments": known})

    def _is_there(self, model: str) -> bool:
        """Whether a model exists: one that this run makes has a manifest once it is complete."""
        return not self.at.makes(model) or (Path(model) / MANIFEST_NAME).is_file()

    # --- all of it ---------------------------------------------------------------------------------------------------

    @remembering()
    @knowing_models()
    def all_results(self, given: dict[str, Results]) -> dict[str, Results]:
        """Check the run, and run what is left of it.

        Args:
            given: results of steps that are known to be done; the others are made here, in order.

        Raises:
            InputError, TrainingError: see the stages.
        """
        self.given = given
        self.check()
        return self.results(lambda folder: None)

    def results(self, before_dropping: Callable[[Path], object]) -> dict[str, Results]:
        """Run all stages, then write the table, and keep what the recipe says.

        Raises:
            InputError: another process is working in the folder, or something that was not there before is wrong.
            TrainingError: the training went wrong, or a disk is full.
        """
        folder = self.at.folder
        shown = showing(self.schedule, quiet=self.is_quiet)
        with locked(folder), explain_full_disk([folder]), logged_into(folder), shown:
            results = self._results()
            before_dropping(folder)
            if self.at.shared == folder:
                # One process alone: files that it is still writing would be gone under the eyes of the others.
                on_main(lambda: logger.warning("%s has %s on disk", folder, size(bytes_below(folder))))
            # Without a best student, which `check` refuses, all models would be lost.
            kept = any(found.get("best") for found in results.values())
            if self.recipe.run.keep == "best" and self.at.shared == folder and kept:
                on_main(lambda: drop_steps(self.at.dropped, self.read, self.task, self.further, results))
            return results

    def _results(self) -> dict[str, Results]:
        self._record_recipe()
        if self.given is None:
            (self.given,) = make_together([self.as_started()], self.rows)
        for node in self.nodes:
            self.steps_made[node.name] = self._made(node.name)
        results = self.table(self.steps_made)
        best = best_method(results, self._method_arguments(), self.task)
        try:
            if best is not None and self.at.shared == self.at.folder:
                self._publish_best(best, results[best])
        finally:
            # Everything is trained by now, whatever becomes of the best student.
            self._write_results(results)
        return results

    def _method_arguments(self) -> dict[str, StageArguments]:
        return {method: self.at.arguments(method)[0] for method in self.recipe.run.methods}

    def _publish_best(self, best: str, results: Results) -> None:
        """Publish the best student as RUN/best, with fewer tokens and its scores with these if the recipe says so."""
        folder = self.at.folder
        trim = self.recipe.run.student_trim is not None
        loading = self.at.loading(self.at.model(best))
        trimmed = on_main(lambda: publish_trimmed_best(folder, best, self.task, loading)) if trim else None
        if trimmed is None:
            on_main(lambda: publish_best(folder, best))
            results["best"] = True
            return
        args = self.at.arguments(best)[0]
        scores: Results = {}
        for data, task in {"": self.task, **self.further}.items():
            file = folder / "scores" / f"{f'{BEST}_{data}' if data else BEST}.json"
            found = kept_scores(file, str(folder / BEST), task, args, loading)
            prefix = f"{data}_" if data else ""
            scores |= {name if name == "parameters" else prefix + name: value for name, value in found.items()}
        results["best"] = True
        results["trimmed"] = {**scores, "tokens": trimmed["after"]["tokens"], "of_tokens": trimmed["before"]["tokens"]}

    def as_started(self, within: str = "", predicts: bool = False) -> Started:
        """For `make_together`, after `check`."""
        return Started(self, self.planned, within, predicts)

    def _made(self, name: str) -> Results:
        """The results of a step, made here or elsewhere."""
        found = (self.given or {}).get(name)
        if found is None:
            found = self.make(name)
        if name == self.tuning("teacher"):
            current_display().teacher = found
        return found

    # --- files ------------------------------------------------------------------------------------------------------

    def _record_recipe(self) -> None:
        record_commits(self.at.shared)
        if PartialState().is_main_process:
            for folder in (self.at.folder, self.at.folder / "scores", self.at.shared / "scores"):
                remove_leftovers(folder)
            text = recorded_text(
                self.recipe.content, RECIPE_HEAD, self.at.folder, in_memory(self.recipe.models, self.task)
            )
            with atomic_files(self.at.folder) as partial:
                (partial / RECIPE_NAME).write_text(text, encoding="utf-8")

    def _write_results(self, results: dict[str, Results]) -> None:
        if PartialState().is_main_process:
            with atomic_files(self.at.folder) as partial:
                write_json(partial / "results.json", results)
                (partial / "results.md").write_text(results_table(results) + "\n", encoding="utf-8")
            # Other runs need one that is shared.
            remove_caches(self.at.folder / CACHE_NAME)
