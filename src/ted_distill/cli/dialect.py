"""The words after a command: help, options with one value, flags with any number, and changes to a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError

CHANGES = "[key=value ...]"
EITHER = "Changes may be written as key=value, --key=value or --key value; section.key reaches into a section."
HELP_ALL = "--help-all"
_REPEATED = "require"
_NAMES_OF_USERS = "score_on"
"""A section whose keys are names that users choose, with dashes perhaps."""


# --- words of any command -----------------------------------------------------------------------------------------


def wants_help(words: Sequence[str]) -> bool:
    """Whether help is asked for."""
    return bool({"-h", "--help", HELP_ALL} & {*words})


def take(words: Sequence[str], *spellings: str, most: int | None = None) -> tuple[list[str | None], list[str]]:
    """The values of an option that has one, each time that it is given, and all other words.

    Args:
        spellings: of the option. After any of them, the value is the next word, whatever it is, or follows `=`; one
            that ends in `=` is only taken with it.
        most: how often the option is taken [always].

    Returns:
        None for a value where the words end, and the words that are left, in order.
    """
    values: list[str | None] = []
    others: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if len(values) == most or not {name, name + equals} & {*spellings}:
            others.append(word)
        else:
            values.append(value if equals else next(left, None))
    return values, others


def named_config(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file after `--config`, if any, and all other words. Raises `InputError` for none or several."""
    found, others = take(words, "--config")
    files = [file or "" for file in found]
    if len(files) > 1 or any(not file or file.startswith("--") for file in files):
        raise InputError(f"--config: expected one YAML file, got {' and '.join(files).strip() or 'nothing'}")
    return (files[0] if files else None), others


class Flag(NamedTuple):
    """A flag and its values.

    Attributes:
        name: with its dashes; a word without them belongs to no flag.
        values: the words that follow.
        joined: the first value was written with `=`.
    """

    name: str
    values: list[str]
    joined: bool


def flags_of(
    words: Sequence[str], is_switch: Callable[[str], bool], is_key: Callable[[str], bool] = lambda name: True
) -> list[Flag]:
    """Each flag with the values that follow it. `key=value` is a flag too, unless one before it waits for its value.

    Args:
        is_switch: whether a flag, with its dashes, waits for no value.
        is_key: whether there may be a flag of this name, with its dashes; what is none is a further value.
    """
    found: list[Flag] = []

    def waits(flag: Flag) -> bool:
        return not flag.values and not is_switch(flag.name)

    for word in words:
        is_flag = word.startswith("--")
        key, equals, value = word.removeprefix("--").partition("=")
        name = f"--{key}" if is_flag or equals else word
        if is_flag or not found or (equals and is_key(name) and not waits(found[-1])):
            found.append(Flag(name, [value] if equals else [], bool(equals)))
        else:
            found[-1].values.append(word)
    return found


# --- words of commands that take a recipe ---------------------------------------------------------------------------


class Words(NamedTuple):
    """A recipe, None if none was named, and changes to it."""

    recipe: str | None
    changes: list[str]


def read_words(words: Sequence[str]) -> Words:
    """The recipe that comes first or after `--config`, and the changes.

    Raises:
        InputError: a word that belongs to no key, or two recipes.
    """
    named, others = named_config(words)
    if others and named is None and not is_change(others[0]):
        named, others = others[0], others[1:]
    return Words(named, changes(others))


def recipe_word(command: str, words: Sequence[str]) -> str:
    """The first word, which names a recipe. Raises `InputError` if there is none."""
    if not words or words[0].startswith("-"):
        raise InputError(
            f"expected a recipe, got {words[0] if words else 'nothing'}; write ted {command} RECIPE {CHANGES}, "
            "where RECIPE is a YAML file or a name that `ted list` prints"
        )
    return words[0]


def is_change(word: str) -> bool:
    """Whether a word is a flag or `key=value`, and not the name of a file."""
    return word.startswith("-") or ("=" in word and not Path(word).is_file())


def changes(words: Sequence[str]) -> list[str]:
    """`key=value` for each `key=value`, `--key=value` or `--key value` among `words`.

    A flag without a value is true, one with several values has a list of them. `--require` may come several times; null
    takes out those of the recipe. Dashes in a key are underscores.

    Raises:
        InputError: a word that belongs to no key.
    """
    several: list[Any] | None = None
    others: list[str] = []
    for name, values, joined in flags_of(words, _is_switch):
        lost = values[1:] if joined else []
        if lost or not name.startswith("--"):
            raise InputError(f"override: expected key=value or --key value, got {lost[0] if lost else name}")
        key = _underscored(name)
        if key == _REPEATED:
            several = [*(several or []), *_listed(values)]
        else:
            others.append(f"{key}={_value(values)}")
    return [*others, *([] if several is None else [f"{_REPEATED}={json.dumps(several or None)}"])]


def _listed(texts: Sequence[str]) -> list[Any]:
    """Values of a key that may come several times: texts as they are, those of a list one by one, none of null."""
    from ..runs.parsing import parse_yaml

    found: list[Any] = []
    for text in texts or ["true"]:
        if text.strip() != "null" and not text.lstrip().startswith("["):
            found.append(text)
            continue
        value = parse_yaml(text, _REPEATED)
        found += value if isinstance(value, list) else []
    return found


def content_of(given: Sequence[str]) -> dict[str, Any]:
    """Changes as the content of a recipe."""
    from ..runs.recipe_keys import apply_override

    content: dict[str, Any] = {}
    for change in given:
        apply_override(content, change)
    return content


def _is_switch(name: str) -> bool:
    """Whether a key is true or false, so that `--key other=value` gives it no value."""
    from ..models.load import ModelArguments
    from ..runs.parsing import settings_of
    from ..runs.run_arguments import RunArguments
    from ..stages import DistillArguments
    from ..tasks import TaskArguments
    from ..training.stage_arguments import StageArguments

    known = settings_of((RunArguments, TaskArguments, ModelArguments, StageArguments, DistillArguments))
    key = _underscored(name).rpartition(".")[2]
    return key in known and known[key].types == (bool,)


def _underscored(name: str) -> str:
    """The key that a flag names."""
    key = name.removeprefix("--")
    section, dot, rest = key.partition(".")
    if section == _NAMES_OF_USERS:
        name, second, last = rest.rpartition(".")
        return f"{section}{dot}{name}{second}{last.replace('-', '_') if second else last}"
    return key.replace("-", "_")


def _value(values: list[str]) -> str:
    if len(values) > 1:
        return f"[{', '.join(values)}]"
    return values[0] if values else "true"
