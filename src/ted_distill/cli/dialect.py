"""The words of commands that take recipes: a recipe by file or name, and changes in any of three spellings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError

CHANGES = "[key=value ...]"
EITHER = "Changes may be written as key=value, --key=value or --key value; section.key reaches into a section."
_REPEATED = "require"
_NAMES_OF_USERS = "score_on"
"""A section whose keys are names that users choose, with dashes perhaps."""


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


def wants_help(words: Sequence[str]) -> bool:
    """Whether help is asked for."""
    return bool({"-h", "--help", "--help-all"} & {*words})


def recipe_word(command: str, words: Sequence[str]) -> str:
    """The first word, which names a recipe. Raises `InputError` if there is none."""
    if not words or words[0].startswith("-"):
        raise InputError(
            f"expected a recipe, got {words[0] if words else 'nothing'}; write ted {command} RECIPE {CHANGES}, "
            "where RECIPE is a YAML file or a name that `ted list` prints"
        )
    return words[0]


def named_config(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The file after `--config`, if any, and all other words. Raises `InputError` for none or several."""
    files, others, left = [], [], iter(words)
    for word in left:
        if word == "--config":
            files.append(next(left, ""))
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        else:
            others.append(word)
    if len(files) > 1 or any(not file or file.startswith("--") for file in files):
        raise InputError(f"--config: expected one YAML file, got {' and '.join(files).strip() or 'nothing'}")
    return (files[0] if files else None), others


def is_change(word: str) -> bool:
    """Whether a word is a flag or `key=value`, and not the name of a file."""
    return word.startswith("-") or ("=" in word and not Path(word).is_file())


def changes(words: Sequence[str]) -> list[str]:
    """`key=value` for each `key=value`, `--key=value` or `--key value` among `words`.

    A flag without a value is true, one with several values has a list of them. `--require` may come several times.
    Dashes in a key are underscores.

    Raises:
        InputError: a word that belongs to no key.
    """
    found: list[tuple[str, list[str]]] = []
    takes_values = False
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            found.append((_underscored(key), [value] if equals else []))
            takes_values = not equals
        # The first value may contain `=`, unless it can only be true or false; later words with `=` are changes.
        elif takes_values and (not equals or not (found[-1][1] or _is_switch(found[-1][0]))):
            found[-1][1].append(word)
        elif equals:
            found.append((_underscored(key), [value]))
            takes_values = False
        else:
            raise InputError(f"override: expected key=value or --key value, got {word}")
    several = [text for key, values in found if key == _REPEATED for text in values]
    others = [f"{key}={_value(values)}" for key, values in found if key != _REPEATED]
    return [*others, *([f"{_REPEATED}={json.dumps(several)}"] if several else [])]


def _is_switch(key: str) -> bool:
    """Whether a key is true or false, so that `--key other=value` gives it no value."""
    from ..models.load import ModelArguments
    from ..runs.parsing import settings_of
    from ..runs.recipe import RunArguments
    from ..stages import DistillArguments
    from ..tasks import TaskArguments
    from ..training.stage_arguments import StageArguments

    known = settings_of((RunArguments, TaskArguments, ModelArguments, StageArguments, DistillArguments))
    name = key.rpartition(".")[2]
    return name in known and known[name].types == (bool,)


def content_of(given: Sequence[str]) -> dict[str, Any]:
    """Changes as the content of a recipe."""
    from ..runs.recipe import apply_override

    content: dict[str, Any] = {}
    for change in given:
        apply_override(content, change)
    return content


def _underscored(key: str) -> str:
    section, dot, rest = key.partition(".")
    if section == _NAMES_OF_USERS:
        name, second, last = rest.rpartition(".")
        return f"{section}{dot}{name}{second}{last.replace('-', '_') if second else last}"
    return key.replace("-", "_")


def _value(values: list[str]) -> str:
    if len(values) > 1:
        return f"[{', '.join(values)}]"
    return values[0] if values else "true"
