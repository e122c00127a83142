"""`ted demo`, `list`, `show` and `run`: recipes by name or file, with changes on the command line."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError

_CHANGES = "[key=value ...]"
EITHER = "Changes may be written as key=value, --key=value or --key value; section.key reaches into a section."


def read_run(words: list[str]) -> tuple[Any, ...] | None:
    """The recipe to run; None if help was printed.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    from ..runs import run as runs
    from ..runs.recipe import Recipe, read_recipe

    if wants_help(words):
        documents = [inspect.cleandoc(thing.__doc__ or "") for thing in (runs, Recipe)]
        about = ["RECIPE is a YAML file, or a name that `ted list` prints.", EITHER]
        sys.stdout.write("\n\n".join([f"usage: ted run RECIPE {_CHANGES}", "\n".join(about), *documents]) + "\n")
        return None
    return (read_recipe(recipe_word("run", words), changes(words[1:])),)


def run(recipe: Any) -> None:
    """Run all stages of a recipe and print the table."""
    from ..runs import run as runs

    _print_table(runs.run(recipe), recipe.run.output_dir)


def read_show(words: list[str]) -> tuple[Any, ...] | None:
    """The recipe to show and its file; None if help was printed.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    if wants_help(words):
        sys.stdout.write(
            f"usage: ted show RECIPE {_CHANGES}\n\n"
            "What `ted run` would do with the same words, without training: models, pairs of blocks, filters, steps,\n"
            "estimates of memory and disk space. It reads configs, tokenizers and data, but no weights.\n\n"
            f"{EITHER}\n"
        )
        return None
    from ..runs.recipe import read_recipe
    from ..runs.recipe_files import find_recipe

    file = find_recipe(recipe_word("show", words))
    return file, read_recipe(file, changes(words[1:]), output_dir=f"runs/{file.stem}")


def show(file: Path, recipe: Any) -> None:
    """Print what a recipe would do."""
    from ..runs.planning import plan, show
    from ..runs.recipe_files import recipe_title

    sys.stdout.write(f"{recipe_title(file) or file}\n{file}\n\n{show(plan(recipe))}")


def read_demo(words: list[str]) -> tuple[Any, ...] | None:
    """The folder of the demo and changes to its recipe; None if help was printed.

    Raises:
        InputError: a word that is not a change.
    """
    from ..demo.run_demo import DEFAULT_FOLDER

    if wants_help(words):
        sys.stdout.write(
            f"usage: ted demo {_CHANGES}\n\nRuns in {DEFAULT_FOLDER}; output_dir=FOLDER changes that.\n{EITHER}\n"
        )
        return None
    given = changes(words)
    folders = [change.partition("=")[2] for change in given if change.startswith("output_dir=")]
    others = [change for change in given if not change.startswith("output_dir=")]
    return folders[-1] if folders else DEFAULT_FOLDER, others


def demo(folder: str, overrides: list[str]) -> None:
    """Run the demo and print its table."""
    from ..demo.run_demo import run_demo

    _print_table(run_demo(folder, overrides), folder)


def read_list(words: list[str]) -> tuple[Any, ...] | None:
    """Nothing, which is all `ted list` needs; None if help was printed."""
    if wants_help(words):
        sys.stdout.write("usage: ted list\n\nTasks and data sets for --task, recipes for `ted show` and `ted run`.\n")
        return None
    return ()


def list_names() -> None:
    """Print the tasks and the recipes known by name."""
    from ..runs.recipe_files import recipe_files, recipe_title
    from ..tasks import TASKS, describe_task

    recipes = {name: recipe_title(file) for name, file in recipe_files().items()}
    for title, lines in (("tasks", {name: describe_task(name) for name in TASKS}), ("recipes", recipes)):
        width = max(map(len, lines))
        sys.stdout.write(f"{title}\n" + "".join(f"  {name:<{width}}  {line}\n" for name, line in lines.items()))


def changes(words: Sequence[str]) -> list[str]:
    """`key=value` for each `key=value`, `--key=value` or `--key value` among `words`.

    A flag without a value is true, one with several values has a list of them. `--require` may come several times.

    Raises:
        InputError: a word that belongs to no key.
    """
    found: list[tuple[str, list[str]]] = []
    takes_values = False
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            found.append((key, [value] if equals else []))
            takes_values = not equals
        # The first value may contain `=`; later words with `=` are separate changes.
        elif takes_values and (not found[-1][1] or not equals):
            found[-1][1].append(word)
        elif equals:
            found.append((key, [value]))
            takes_values = False
        else:
            raise InputError(f"override: expected key=value or --key value, got {word}")
    several = [text for key, values in found if key == "require" for text in values]
    others = [f"{key}={_value(values)}" for key, values in found if key != "require"]
    return [*others, *([f"require={json.dumps(several)}"] if several else [])]


def _value(values: list[str]) -> str:
    if len(values) > 1:
        return f"[{', '.join(values)}]"
    return values[0] if values else "true"


def wants_help(words: list[str]) -> bool:
    """Whether help is asked for."""
    return bool({"-h", "--help", "--help-all"} & {*words})


def recipe_word(command: str, words: list[str]) -> str:
    """The first word, which names a recipe. Raises `InputError` if there is none."""
    if not words or words[0].startswith("-"):
        raise InputError(
            f"expected a recipe, got {words[0] if words else 'nothing'}; write ted {command} RECIPE {_CHANGES}, "
            "where RECIPE is a YAML file or a name that `ted list` prints"
        )
    return words[0]


def _print_table(results: Any, folder: str) -> None:
    from ..runs.table import results_table

    sys.stdout.write(f"\n{results_table(results)}\n\n{folder}/results.md\n")
