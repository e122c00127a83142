"""`ted demo`, `list`, `show`, `check` and `run`: recipes by name or file, with changes on the command line."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, nearest, results_all_the_same, shown
from .dialect import CHANGES, EITHER, changes, content_of, read_words, recipe_word, take
from .init import draft_of
from .report import report_at_the_end, say, say_files
from .stages import print_results

if TYPE_CHECKING:
    from ..runs.recipe import Recipe

_WITHOUT = (
    "Without RECIPE: --teacher MODEL --train_file FILE and any changes make the recipe that `ted init` would write\n"
    "(ted init --help), and use it."
)

RUN_HELP = f"""usage: ted run RECIPE {CHANGES}

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
  --only STEP                   one step of `ted plan`

{EITHER}

{_WITHOUT}
"""

SHOW_HELP = f"""usage: ted show RECIPE {CHANGES}

What `ted run` would do with the same words, without training: models, pairs of blocks, filters, steps,
estimates of memory and disk space. It reads configs, tokenizers and data, but no weights.

{EITHER}

{_WITHOUT}
"""

PLAN_HELP = f"""usage: ted plan RECIPE [--format sh|make] {CHANGES}

The steps of `ted run` with the same words as commands for a shell or make, and what each waits for, so
that any scheduler can start them, also at once or on several machines with the same files. Each does
nothing if it was done before, and resumes where it was interrupted; the last one writes the table.

{EITHER}
"""

CHECK_HELP = f"""usage: ted check RECIPE {CHANGES}

Tries out what `ted run` would do with the same words: loads the models, scores them on a few rows,
makes a few steps of each stage, and says what that means for the run: time, memory, disk, and what may
be wrong with models, labels and data. Nothing is written. Problems end it with exit code 2, doubts do
not.

{EITHER}

{_WITHOUT}
"""

DEMO_HELP = f"""usage: ted demo {CHANGES}

Runs in runs/demo; output_dir=FOLDER changes that.
{EITHER}
"""

LIST_HELP = "usage: ted list\n\nTasks and data sets for --task, recipes for `ted show` and `ted run`.\n"

_NEXT = """
Next, with a model and data of your own:
  {ted} init MODEL --train_file FILE -o my.yaml   write a recipe, every value with its reason
  {ted} check my.yaml                             try out the model and the data; how long will it take?
  {ted} run my.yaml                               all stages, then a table and a report as above
One seed hardly ever tells methods apart; `{ted} compare my.yaml --seeds 5` does.
"""


def read_run(words: list[str]) -> tuple[Recipe, str | None]:
    """The recipe to run, and the only step of it, if one is named.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    only, others = _taken("only", words)
    return recipe_of("run", others)[1], only


def _taken(key: str, words: list[str]) -> tuple[str | None, list[str]]:
    """The last value of a key, written in any of the three spellings, and all other words. Raises `InputError`."""
    values, others = take(words, f"--{key}", f"{key}=")
    if any(not value or value.startswith("--") for value in values):
        raise InputError(f"--{key}: expected a value, got nothing")
    return (values[-1] if values else None), others


def recipe_of(command: str, words: list[str]) -> tuple[Path | None, Recipe]:
    """The recipe that words name, and its file; or the one drafted of flags alone, which is printed, and None.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    from ..output.processes import process_rank
    from ..runs.recipe import read_recipe
    from ..runs.recipe_files import find_recipe
    from ..runs.recorded import refuse_in_memory, refuse_moved

    name, given = read_words(words)
    if name is None:
        draft = draft_of(command, given, words[0] if words else "nothing")
        if process_rank() == 0:
            sys.stdout.write(f"{draft.text}\n")
        return None, draft.recipe
    file = find_recipe(name)
    keys = [change.partition("=")[0] for change in given]
    refuse_in_memory(file, keys)
    refuse_moved(file, keys)
    return file, read_recipe(file, given)


def run(recipe: Any, only: str | None = None) -> None:
    """Run all stages of a recipe and print the table; or only one step of it, and print its results."""
    from ..runs import run as runs

    if only is not None:
        print_results(runs.make_step(recipe, only), None)
        return
    _run_all(partial(runs.run, recipe), recipe.run.output_dir, recipe.run.report)


def _run_all(run: Callable[..., Any], folder: str, report: bool) -> None:
    """Run all stages in a folder; print the table, and where it and the report are, if one is wanted."""
    from ..runs.table import BEST, results_table

    files: list[Path] = []

    def write_report(folder: Path) -> None:  # while all models are there, and the run holds the folder's lock
        if report:
            files.extend(report_at_the_end(folder, held=True))

    results, failed = results_all_the_same(partial(run, before_dropping=write_report))
    say(f"\n{results_table(results)}\n\n{folder}/results.md\n")
    say_files(files)
    if (Path(folder) / BEST).is_dir():
        say(f"{folder}/{BEST}: the best student; next: {next_of_run(folder)}\n")
    if failed:
        raise failed


def next_of_run(folder: str) -> str:
    """The commands that go on from a run: on its own rows, which its recipe names."""
    from ..output import program
    from ..runs.recorded import RECIPE_NAME
    from ..runs.table import BEST

    run, best, recipe = (shlex.quote(str(Path(folder, name))) for name in ("", BEST, RECIPE_NAME))
    return f"{program()} bench {run}, or {program()} export {best} --int8 --test {recipe}"


def read_show(words: list[str]) -> tuple[Path | None, Recipe]:
    """The recipe to show and its file, if it has one. Raises `InputError` for no recipe, or one that is refused."""
    return recipe_of("show", words)


def show(file: Path | None, recipe: Any) -> None:
    """Print what a recipe would do."""
    from ..runs.planning import plan, show
    from ..runs.recipe_files import recipe_title

    title = "".join(f"{line}\n" for line in filter(None, (recipe_title(file), file))) + "\n" if file else ""
    sys.stdout.write(f"{title}{show(plan(recipe))}")


def read_plan(words: list[str]) -> tuple[Recipe, list[str], str]:
    """The recipe, the words that name it and the format.

    Raises:
        InputError: no recipe, one that is refused, or another format.
    """
    from ..runs.commands import FORMATS

    kind, others = _taken("format", words)
    if kind is not None and kind not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, got {shown(kind)}{nearest(kind, FORMATS)}")
    recipe_word("plan", others)
    return recipe_of("plan", others)[1], others, kind or FORMATS[0]


def plan(recipe: Any, words: list[str], kind: str) -> None:
    """Print the commands."""
    from ..runs.commands import plan_text

    sys.stdout.write(plan_text(recipe, words, kind))


def read_check(words: list[str]) -> tuple[Recipe]:
    """The recipe to check. Raises `InputError` for no recipe, or one that is refused."""
    return (recipe_of("check", words)[1],)


def check(recipe: Any) -> None:
    """Print what a check finds. Raises `InputError` for problems, after everything else is printed."""
    from ..runs.run import check_recipe

    report = check_recipe(recipe)
    say(report.text())
    sys.stdout.flush()
    report.raise_problems()


def read_demo(words: list[str]) -> tuple[str, list[str]]:
    """The folder of the demo and changes to its recipe. Raises `InputError` for a word that is not a change."""
    from ..demo.run_demo import DEFAULT_FOLDER

    given = changes(words)
    folders = [change.partition("=")[2] for change in given if change.startswith("output_dir=")]
    others = [change for change in given if not change.startswith("output_dir=")]
    return folders[-1] if folders else DEFAULT_FOLDER, others


def demo(folder: str, overrides: list[str]) -> None:
    """Run the demo and print its table."""
    from ..demo.run_demo import run_demo
    from ..output import program

    _run_all(partial(run_demo, folder, overrides), folder, content_of(overrides).get("report") is not False)
    say(_NEXT.format(ted=program()))


def list_names() -> None:
    """Print the tasks and the recipes known by name."""
    from ..runs.recipe_files import recipe_files, recipe_title
    from ..tasks.descriptions import DESCRIPTIONS

    recipes = {name: recipe_title(file) for name, file in recipe_files().items()}
    for title, lines in (("tasks", DESCRIPTIONS), ("recipes", recipes)):
        width = max(map(len, lines))
        sys.stdout.write(f"{title}\n" + "".join(f"  {name:<{width}}  {line}\n" for name, line in lines.items()))
