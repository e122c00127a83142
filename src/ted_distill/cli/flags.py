"""The flags of a command, and a YAML file of them -> dataclasses, with all problems reported at once."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from transformers import HfArgumentParser

from ..errors import InputError, collect, nearest, raise_if_any
from ..ranges import ranges_of
from ..runs.parsing import Setting, construct, convert, field_names, read_yaml, settings_of
from ..runs.recipe_files import recipe_files
from ..runs.stage_config import is_recipe, stage_config
from ..tasks import TaskArguments
from .command import Names
from .dialect import flags_of, named_config, take
from .help_screen import HelpFormatter, reword, shorten

logger = logging.getLogger(__name__)

_OUT = ("-o", "--output_dir", "--output-dir", "output_dir", "output-dir")
"""Flags for the name OUT, as stages and recipes call it."""


class Parser(HfArgumentParser):
    """`HfArgumentParser` that raises `InputError` instead of exiting, and returns only the flags that were given.

    Values are converted like those of a YAML file.
    """

    def __init__(self, kinds: Sequence[type], **options: Any) -> None:
        super().__init__(list(kinds), allow_abbrev=False, add_help=False, formatter_class=HelpFormatter, **options)
        settings = settings_of(kinds)
        self.usual = {action.dest: action.default for action in self._actions}
        for action in self._actions:
            action.default = argparse.SUPPRESS
            if action.nargs == 0:
                continue
            action.choices = None  # `Setting` names them in our words
            setting = settings[action.dest]
            if action.nargs == "+":
                # Of `str | list[Kind]` too: several values are those of the list.
                several = next(kind for kind in setting.types if get_origin(kind) is list)
                setting = Setting(setting.name, get_args(several))
            elif setting.types == (bool,):
                action.nargs, action.const = "?", True
            action.type = _from_text(setting)

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        flags, _, reason = message.removeprefix("argument ").partition(": ")
        for known, ours in (
            ("expected one argument", "expected a value, got nothing"),
            ("expected at least one argument", "expected one or more values, got nothing"),
            ("ignored explicit argument", "expected no value, got"),
        ):
            reason = reason.replace(known, ours)
        raise InputError(f"{flags.split('/')[0]}: {reason}")

    @property
    def flags(self) -> set[str]:
        """All flags, with their dashes."""
        return {flag for action in self._actions for flag in action.option_strings if flag.startswith("--")}

    def given(self, words: Sequence[str], problems: list[str]) -> dict[str, Any]:
        """Values of the flags among `words`; wrong ones are left out and added to `problems`."""
        switches = {flag for action in self._actions if action.nargs in ("?", 0) for flag in action.option_strings}
        found: dict[str, Any] = {}
        for name, values, joined in flags_of(words, switches.__contains__, self.flags.__contains__):
            if not name.startswith("--"):
                problems.append(f"expected a flag, got {name}")
            elif name not in self.flags:
                problems.append(f"unknown flag {name}{nearest(name, self.flags)}")
            else:
                with collect(problems):
                    found |= self._converted(name, values, joined)
        return found

    def _converted(self, name: str, values: list[str], joined: bool) -> dict[str, Any]:
        # With `=`, since argparse takes `-1e-5` for a flag.
        if joined or (len(values) == 1 and values[0].startswith("-")):
            words = [f"{name}={values[0]}", *values[1:]]
        else:
            words = [name, *values]
        namespace, left = self.parse_known_args(words)
        if left:
            raise InputError(
                f"{name}: expected one value, got {len(values)} ({' '.join(values)}); "
                "put quotes around a value with blanks"
            )
        return vars(namespace)


def _from_text(setting: Setting) -> Callable[[str], Any]:
    def from_text(text: str) -> Any:
        try:
            return setting.convert(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(error.problems[0]) from error

    return from_text


def parse_flags(command: str, kinds: Sequence[type], words: Sequence[str]) -> tuple[Any, ...]:
    """Dataclasses of `kinds` from `--config FILE.yaml` and flags, which win.

    Raises:
        InputError: all unknown keys or flags (with the nearest known one), values that do not fit, and missing models,
            task or folder.
    """
    parsed, given = _parsed(command, kinds, words)
    raise_if_any(f"--{name} is missing; this command needs it" for name in _missing(parsed, given))
    return parsed


def _parsed(command: str, kinds: Sequence[type], words: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The dataclasses, and what was given for them."""
    file, others = named_config(words)
    problems: list[str] = []
    of_flags: list[str] = []
    flags = Parser(kinds).given(others, of_flags)
    values = _config_values(command, file, kinds, flags) if file else {}
    given = convert(kinds, values, "config", problems) | flags
    return construct(kinds, given, problems=problems + of_flags), given


def _config_values(command: str, file: str, kinds: Sequence[type], flags: dict[str, Any]) -> dict[Any, Any]:
    """The flags in a YAML file, or those of the command's stage in a recipe by file or name. Raises `InputError`."""
    known = recipe_files()
    content = read_yaml(known[file] if file in known and not Path(file).is_file() else file, "config", source=True)
    if not is_recipe(content) or {*content} <= field_names(*kinds):
        return content
    config = stage_config(command, file, content, kinds, flags)
    logger.warning("%s", config.said)
    return config.values


def parse_names(
    command: str, names: Names, kinds: Sequence[type], words: Sequence[str]
) -> tuple[list[str], tuple[Any, ...]]:
    """Names, and dataclasses of `kinds` from the flags after them.

    Raises:
        InputError: unknown flags, wrong values, or another number of names.
    """
    folders, others = take(words, *_OUT, most=1) if "OUT" in names.order else ([], [*words])
    flags = Parser(kinds).flags
    given = _before_flags(others, flags)
    for folder in folders:
        if folder is None:
            raise InputError(f"{words[-1]}: expected a value, got nothing")
        others.insert(len(given), folder)
        given = _before_flags(others, flags)
    problems: list[str] = []
    if len(given) not in names.counts:
        order = names.order.replace("[", "").replace("]", "")
        problems.append(
            f"expected {names.what} before the flags, got {' '.join(given) or 'nothing'}; write {order} first"
        )
    parsed: tuple[Any, ...] = ()
    with collect(problems):
        parsed, of_flags = _parsed(command, kinds, others[len(given) :])
        for part in parsed:
            if isinstance(part, TaskArguments):
                part.named = frozenset(of_flags)
    raise_if_any(problems)
    return given, parsed


def _before_flags(words: Sequence[str], flags: Collection[str]) -> list[str]:
    """The names: words up to the first flag, which may be written as `key=value`."""

    def is_name(word: str) -> bool:
        key, equals, _ = word.partition("=")
        return not word.startswith("-") and not (equals and f"--{key}" in flags)

    return [*takewhile(is_name, words)]


def flags_help(usage: str, about: str, kinds: Sequence[type], full: bool) -> str:
    """The help of a command with flags.

    Args:
        usage: the command and its names.
        about: what it does.
        full: whether flags that few people set are listed too.
    """
    parser = Parser(kinds, prog=f"ted {usage}", description=about)
    reword(parser, parser.usual, {name: allowed for kind in kinds for name, allowed in ranges_of(kind).items()})
    if not full:
        shorten(parser)
    return parser.format_help()


def _missing(parsed: tuple[Any, ...], given: dict[str, Any]) -> list[str]:
    """The models, the task and the folder that a command without names needs and was not given."""
    values = {name: value for part in parsed for name, value in vars(part).items()}
    needed = [*(name for part in parsed for name in getattr(part, "needed", ())), "task"]
    if any(not part.of_method.needs_teacher for part in parsed if hasattr(part, "of_method")):
        needed = [name for name in needed if name != "teacher_name_or_path"]
    missing = [name for name in needed if name in values and not values[name]]
    if "learning_rate" in values and not given.get("output_dir"):
        missing.append("output_dir")
    return missing
