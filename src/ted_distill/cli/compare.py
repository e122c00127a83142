"""`ted compare`: a recipe's methods over several seeds, from words to a verdict on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ..errors import InputError, collect, raise_if_any, results_all_the_same
from .dialect import EITHER, changes, recipe_word
from .report import report_at_the_end, say, say_files

HELP = f"""usage: ted compare RECIPE [--seeds 5] [--methods kd,lwd,ted] [--grid KEY=V,V,V ...] [key=value ...]

Trains every method with several seeds, all from the same start, with the same data, updates and number of evaluations,
and says which can be told apart. The student trained on the labels alone is always among them. What seeds share is made
once, in the run's folder; the comparison is in compare/ in it. What is finished is skipped: the same command resumes
after an interruption, and more --seeds add to those that are there.

  --seeds N        how many seeds [5]; fewer than 3 hardly ever tell methods apart
  --methods A,B    the methods to compare [the recipe's]; alone may also be called finetune
  --grid KEY=V,V   values of Stage II's settings (mse_alpha, kl_alpha, learning_rate, ...) to choose from, for every
                   method that uses the key, on rows held out of the training rows; several keys are combined
  --resamples N    draws of the bootstrap [2000]
  --workers N      stages that do not wait for each other, at once, or auto: as many as speed it up [1]
  --launcher ray   make them as tasks of a Ray cluster

{EITHER}
"""


_MEANT = {"seed": "seeds", "method": "methods"}
"""Flags that are easily taken for others of this command."""
_NUMBERS = ("seeds", "resamples")
"""What this command has besides a recipe's keys."""


def read_compare(words: list[str]) -> tuple[Any, dict[str, int], dict[str, list[Any]]]:
    """The recipe, the numbers of seeds and draws that are given, and the grid.

    Raises:
        InputError: no recipe, or one that is refused.
    """
    from ..runs.recipe import read_recipe
    from ..runs.recipe_files import find_recipe
    from ..runs.recorded import refuse_in_memory, refuse_moved

    file = recipe_word("compare", words)
    grid, others = _grid_words(words[1:])
    numbers: dict[str, int] = {}
    problems: list[str] = []
    kept = []
    for change in changes(others):
        key, _, value = change.partition("=")
        if key in _NUMBERS:
            with collect(problems):
                numbers[key] = _whole_number(key, value)
        else:
            kept.append(_methods(value) if key == "methods" else change)
            if key in _MEANT:
                problems.append(f"--{key}: expected --{_MEANT[key]}, got no such flag; write it so")
    recipe = None
    with collect(problems):
        keys = [change.partition("=")[0] for change in kept]
        refuse_in_memory(find_recipe(file), keys)
        refuse_moved(find_recipe(file), keys)
        recipe = read_recipe(file, kept)
    values: dict[str, list[Any]] = {}
    for word in grid:
        with collect(problems):
            key, found = _grid_values(word)
            values.setdefault(key, []).extend(value for value in found if value not in values.get(key, []))
    raise_if_any(problems)
    return recipe, numbers, values


def compare(recipe: Any, numbers: dict[str, int], grid: dict[str, list[Any]]) -> None:
    """Run the comparison and print its table and verdicts."""
    from ..runs.compare import compare
    from ..runs.compare.statistics import RESAMPLES
    from ..runs.compare.verdicts import page
    from ..runs.recorded import COMPARISON

    content, failed = results_all_the_same(
        partial(compare, recipe, numbers.get("seeds", 5), grid or None, numbers.get("resamples", RESAMPLES))
    )
    say(f"\n{page(content)}\n\n{recipe.run.output_dir}/{COMPARISON}/compare.md\n")
    if recipe.run.report:
        say_files(report_at_the_end(f"{recipe.run.output_dir}/{COMPARISON}"))
    if failed:
        raise failed


_OF_BOTH = {"pairs", "filter_interval", "teacher_filter_interval"}
"""Keys of a recipe's top level that Stage II has as well."""


def _grid_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """`KEY=V,V` words of `--grid`, and all other words: keys of a recipe's top level are never part of a grid."""
    from ..runs.recipe_keys import TOP_KEYS

    grid: list[str] = []
    others: list[str] = []
    inside = asked = False
    for word in words:
        key, equals, values = word.partition("=")
        if key == "--grid" or (key == "grid" and equals):
            inside, asked = not equals, True
            grid += [values] if equals else []
        elif inside and key in _OF_BOTH:
            raise InputError(
                f"--grid: expected keys of Stage II alone, got {key}, which also decides Stage I; "
                "compare runs with each value, or give it before --grid"
            )
        elif inside and not (word.startswith("--") or "." in key or key in TOP_KEYS or key in _NUMBERS):
            grid.append(word)
        else:
            inside = False
            others.append(word)
    if asked and not grid:
        raise InputError("--grid: expected KEY=V,V,V after it, got nothing; name what to try, or leave it out")
    return grid, others


def _grid_values(word: str) -> tuple[str, list[Any]]:
    from ..runs.parsing import parse_yaml

    key, equals, values = word.partition("=")
    if not equals or not key:
        raise InputError(f"--grid: expected KEY=V,V,V, got {word}")
    inside = values.removeprefix("[").removesuffix("]") if values.startswith("[") else values
    return key, [parse_yaml(value.strip(), f"grid {key}") for value in inside.split(",") if value.strip()]


def _whole_number(key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InputError(f"--{key}: expected a whole number, got {value or 'nothing'}") from None


def _methods(value: str) -> str:
    """`methods=[...]` with the usual word for training alone put right."""
    names = [name.strip() for name in value.removeprefix("[").removesuffix("]").split(",") if name.strip()]
    names = ["alone" if name == "finetune" else name for name in names]
    return f"methods=[{', '.join(dict.fromkeys(names))}]"
