"""`ted demo`, `list`, `show`, `check` and `run`: recipes by name or file, with changes on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, nearest, shown
from .dialect import CHANGES, EITHER, changes, read_words, recipe_word, wants_help
from .init import draft_of
from .report import report_at_the_end, say, say_files
from .stages import print_results

if TYPE_CHECKING:
    from ..runs.recipe import Recipe

_WITHOUT = (
    "Without RECIPE: --teacher MODEL --train_file FILE and any changes make the recipe that `ted init` would write\n"
    "(ted init --help), and use it."
)

_RUN = """\
All stages of a recipe in one folder, then a table and a report. Stages that are finished are skipped, so the same
command resumes an interrupted run. RECIPE is a YAML file, or a name that `ted list` prints; docs/recipes.md has its
keys and sections. Often set:

  teacher=MODEL train_file=FILE output_dir=FOLDER
  methods=[alone,kd,ted]        which students are trained
  ted.mse_alpha=100             a key of one stage or method; training.KEY for all, distill.KEY for all methods
  finetune_teacher=false        the teacher is fine-tuned already
  --require 'ted.f1 >= 80'      exit code 4 where it does not hold; teacher.f1 may be on the right
  --workers N                   stages that do not wait for each other, at once, or auto [1]
  --launcher ray                make them as tasks of a Ray cluster
  --only STEP                   one step of `ted plan`"""

_NEXT = """
Next, with a model and data of your own:
  ted init MODEL --train_file FILE -o my.yaml   write a recipe, every value with its reason
  ted check my.yaml                             try out the model and the data; how long will it take?
  ted run my.yaml                               all stages, then a table and a report as above
One seed hardly ever tells methods apart; `ted compare my.yaml --seeds 5` does.
"""


def read_run(words: list[str]) -> tuple[Any, ...] | None:
    """The recipe to run; None if help was printed.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    if wants_help(words):
        sys.stdout.write(f"usage: ted run RECIPE {CHANGES}\n\n{_RUN}\n\n{EITHER}\n\n{_WITHOUT}\n")
        return None
    only, others = _taken("only", words)
    return recipe_of("run", others)[1], only


def _taken(flag: str, words: list[str]) -> tuple[str | None, list[str]]:
    """The value of a flag, written in any of the three spellings, and all other words. Raises `InputError`."""
    value, others, left = None, [], iter(words)
    for word in left:
        key, equals, given = word.removeprefix("--").partition("=")
        if key != flag or not (equals or word.startswith("--")):
            others.append(word)
        elif not (given := given if equals else next(left, "")) or given.startswith("--"):
            raise InputError(f"--{flag}: expected a value, got nothing")
        else:
            value = given
    return value, others


def recipe_of(command: str, words: list[str]) -> tuple[Path | None, Recipe]:
    """The recipe that words name, and its file; or the one drafted of flags alone, which is printed, and None.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    from ..output.processes import process_rank
    from ..runs.recipe import read_recipe
    from ..runs.recipe_files import find_recipe

    name, given = read_words(words)
    if name is None:
        draft = draft_of(command, given, words[0] if words else "nothing")
        if process_rank() == 0:
            sys.stdout.write(f"{draft.text}\n")
        return None, draft.recipe
    file = find_recipe(name)
    return file, read_recipe(file, given)


def run(recipe: Any, only: str | None = None) -> None:
    """Run all stages of a recipe and print the table; or only one step of it, and print its results."""
    from ..runs import run as runs

    if only is not None:
        print_results(runs.make_step(recipe, only), None)
        return
    reported = _AtTheEnd(recipe.run.report)
    _end(runs.run(recipe, before_dropping=reported), recipe.run.output_dir, reported)


def read_show(words: list[str]) -> tuple[Any, ...] | None:
    """The recipe to show and its file; None if help was printed.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    if wants_help(words):
        sys.stdout.write(
            f"usage: ted show RECIPE {CHANGES}\n\n"
            "What `ted run` would do with the same words, without training: models, pairs of blocks, filters, steps,\n"
            "estimates of memory and disk space. It reads configs, tokenizers and data, but no weights.\n\n"
            f"{EITHER}\n\n{_WITHOUT}\n"
        )
        return None
    return recipe_of("show", words)


def show(file: Path | None, recipe: Any) -> None:
    """Print what a recipe would do."""
    from ..runs.planning import plan, show
    from ..runs.recipe_files import recipe_title

    title = f"{recipe_title(file) or file}\n{file}\n\n" if file else ""
    sys.stdout.write(f"{title}{show(plan(recipe))}")


def read_plan(words: list[str]) -> tuple[Any, ...] | None:
    """The recipe, the words that name it and the format; None if help was printed.

    Raises:
        InputError: no recipe, one that is refused, or another format.
    """
    from ..runs.commands import FORMATS

    if wants_help(words):
        sys.stdout.write(
            f"usage: ted plan RECIPE [--format {'|'.join(FORMATS)}] {CHANGES}\n\n"
            "The steps of `ted run` with the same words as commands for a shell or make, and what each waits for, so\n"
            "that any scheduler can start them, also at once or on several machines with the same files. Each does\n"
            "nothing if it was done before, and resumes where it was interrupted; the last one writes the table.\n\n"
            f"{EITHER}\n"
        )
        return None
    kind, others = _taken("format", words)
    if kind is not None and kind not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, got {shown(kind)}{nearest(kind, FORMATS)}")
    recipe_word("plan", others)
    return recipe_of("plan", others)[1], others, kind or FORMATS[0]


def plan(recipe: Any, words: list[str], kind: str) -> None:
    """Print the commands."""
    from ..runs.commands import plan_text

    sys.stdout.write(plan_text(recipe, words, kind))


def read_check(words: list[str]) -> tuple[Any, ...] | None:
    """The recipe to check; None if help was printed.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    if wants_help(words):
        sys.stdout.write(
            f"usage: ted check RECIPE {CHANGES}\n\n"
            "Tries out what `ted run` would do with the same words: loads the models, scores them on a few rows,\n"
            "makes a few steps of each stage, and says what that means for the run: time, memory, disk, and what may\n"
            "be wrong with models, labels and data. Nothing is written. Problems end it with exit code 2, doubts do\n"
            "not.\n\n"
            f"{EITHER}\n\n{_WITHOUT}\n"
        )
        return None
    return (recipe_of("check", words)[1],)


def check(recipe: Any) -> None:
    """Print what a check finds. Raises `InputError` for problems, after everything else is printed."""
    from accelerate import PartialState

    from ..runs.run import check_recipe

    report = check_recipe(recipe)
    if PartialState().is_main_process:
        sys.stdout.write(report.text())
        sys.stdout.flush()
    report.raise_problems()


def read_demo(words: list[str]) -> tuple[Any, ...] | None:
    """The folder of the demo and changes to its recipe; None if help was printed.

    Raises:
        InputError: a word that is not a change.
    """
    from ..demo.run_demo import DEFAULT_FOLDER

    if wants_help(words):
        sys.stdout.write(
            f"usage: ted demo {CHANGES}\n\nRuns in {DEFAULT_FOLDER}; output_dir=FOLDER changes that.\n{EITHER}\n"
        )
        return None
    given = changes(words)
    folders = [change.partition("=")[2] for change in given if change.startswith("output_dir=")]
    others = [change for change in given if not change.startswith("output_dir=")]
    return folders[-1] if folders else DEFAULT_FOLDER, others


def demo(folder: str, overrides: list[str]) -> None:
    """Run the demo and print its table."""
    from ..demo.run_demo import run_demo
    from ..runs.parsing import parse_yaml

    given = dict(override.partition("=")[::2] for override in overrides)
    reported = _AtTheEnd(parse_yaml(given.get("report", "true"), "override report") is not False)
    _end(run_demo(folder, overrides, reported), folder, reported)
    say(_NEXT)


def read_list(words: list[str]) -> tuple[Any, ...] | None:
    """Nothing, which is all `ted list` needs; None if help was printed."""
    if wants_help(words):
        sys.stdout.write("usage: ted list\n\nTasks and data sets for --task, recipes for `ted show` and `ted run`.\n")
        return None
    return ()


def list_names() -> None:
    """Print the tasks and the recipes known by name."""
    from ..runs.recipe_files import recipe_files, recipe_title
    from ..tasks.descriptions import DESCRIPTIONS

    recipes = {name: recipe_title(file) for name, file in recipe_files().items()}
    for title, lines in (("tasks", DESCRIPTIONS), ("recipes", recipes)):
        width = max(map(len, lines))
        sys.stdout.write(f"{title}\n" + "".join(f"  {name:<{width}}  {line}\n" for name, line in lines.items()))


class _AtTheEnd:
    """Writes the report of a run while all its models are there and the run holds the folder's lock."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.files: list[Path] = []

    def __call__(self, folder: Path) -> None:
        if self.wanted:
            self.files = report_at_the_end(folder, held=True)


def _end(results: Any, folder: str, reported: _AtTheEnd) -> None:
    """Print the table, and where it and the report are."""
    from ..runs.table import results_table

    say(f"\n{results_table(results)}\n\n{folder}/results.md\n")
    say_files(reported.files)
