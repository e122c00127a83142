"""The flags of a command, and a YAML file of them -> dataclasses, with all problems reported at once."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from transformers import HfArgumentParser

from ..errors import InputError, collect, nearest, raise_if_any
from ..ranges import ranges_of
from ..runs.parsing import Setting, construct, convert, field_names, read_yaml, settings_of
from ..runs.recipe_files import recipe_files
from ..runs.stage_config import is_recipe, stage_config
from .dialect import named_config
from .help_screen import HelpFormatter, reword, shorten

logger = logging.getLogger(__name__)


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
                setting = Setting(setting.name, get_args(setting.types[0]))
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
        found: dict[str, Any] = {}
        for flag, *values in self._by_flag(words):
            name = flag.split("=")[0]
            if not name.startswith("--"):
                problems.append(f"expected a flag, got {name}")
            elif name not in self.flags:
                problems.append(f"unknown flag {name}{nearest(name, self.flags)}")
            else:
                with collect(problems):
                    # Joined, since argparse takes `-1e-5` for a flag.
                    joined = len(values) == 1 and values[0].startswith("-")
                    namespace, left = self.parse_known_args([f"{flag}={values[0]}"] if joined else [flag, *values])
                    if left:
                        words_given = [*flag.split("=")[1:], *values]
                        raise InputError(
                            f"{name}: expected one value, got {len(words_given)} ({' '.join(words_given)}); "
                            "put quotes around a value with blanks"
                        )
                    found |= vars(namespace)
        return found

    def _by_flag(self, words: Sequence[str]) -> list[list[str]]:
        """Each flag with the values that follow it; `key=value` is a flag too, unless a flag waits for its value."""
        switches = {flag for action in self._actions if action.nargs in ("?", 0) for flag in action.option_strings}
        groups: list[list[str]] = []
        for word in words:
            waits = bool(groups) and len(groups[-1]) == 1 and "=" not in groups[-1][0] and groups[-1][0] not in switches
            if word.startswith("--") or (not groups and "=" not in word):
                groups.append([word])
            elif "=" in word and not waits and (not groups or f"--{word.partition('=')[0]}" in self.flags):
                groups.append([f"--{word}"])
            else:
                groups[-1].append(word)
        return groups


def _from_text(setting: Setting) -> Callable[[str], Any]:
    def from_text(text: str) -> Any:
        try:
            return setting.convert(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(error.problems[0]) from error

    return from_text


def parse(
    kinds: Sequence[type],
    argv: Sequence[str],
    file: str | None = None,
    parser: Parser | None = None,
    command: str = "",
) -> tuple[Any, ...]:
    """Dataclasses of `kinds` from flags, which win over those of a YAML file.

    Args:
        command: whose flags they are; of a recipe, the file holds those of the stage that the command runs.

    Raises:
        InputError: all unknown keys or flags (with the nearest known one), values that do not fit, and missing models,
            task or folder.
    """
    parser = parser or Parser(kinds)
    problems: list[str] = []
    of_flags: list[str] = []
    flags = parser.given(argv, of_flags)
    values = _config_values(command, file, kinds, flags) if file else {}
    given = convert(kinds, values, "config", problems) | flags
    problems += of_flags
    parsed = construct(kinds, given, problems=problems)
    raise_if_any(f"--{name} is missing; this command needs it" for name in _missing(parsed, given))
    return parsed


def _config_values(command: str, file: str, kinds: Sequence[type], flags: dict[str, Any]) -> dict[Any, Any]:
    """The flags in a YAML file, or in a recipe by file or name. Raises `InputError`."""
    known = recipe_files()
    content = read_yaml(known[file] if file in known and not Path(file).is_file() else file, "config", source=True)
    if not is_recipe(content) or {*content} <= field_names(*kinds):
        return content
    config = stage_config(command, file, content, kinds, flags)
    logger.warning("%s", config.said)
    return config.values


def parse_flags(command: str, title: str, kinds: Sequence[type], argv: Sequence[str]) -> tuple[Any, ...] | None:
    """Dataclasses of `kinds` from `--config FILE.yaml` and flags, which win; None if help was asked for and printed.

    Raises:
        InputError: see `parse`.
    """
    parser = Parser(kinds, prog=f"ted {command}", description=title)
    if {"-h", "--help", "--help-all"} & set(argv):
        reword(parser, parser.usual, {name: allowed for kind in kinds for name, allowed in ranges_of(kind).items()})
        if "--help-all" not in argv:
            shorten(parser)
        sys.stdout.write(parser.format_help())
        return None
    file, flags = named_config(argv)
    return parse(kinds, flags, file, parser, command.split()[0])


def _missing(parsed: tuple[Any, ...], given: dict[str, Any]) -> list[str]:
    """The models, the task and the folder that a command needs and was not given."""
    values = {name: value for part in parsed for name, value in vars(part).items()}
    names = ["teacher_name_or_path", "student_name_or_path", "task"]
    if "student_name_or_path" not in values:
        names[:2] = [] if values.get("predictions_file") else ["model_name_or_path"]
    # A student needs a task only where its rows say what is kept; exports and benches find it by the checkpoint.
    if {"narrow", "max_changed", "formats"} & values.keys():
        names.remove("task")
    methods = [part.of_method for part in parsed if hasattr(part, "of_method")]
    if methods and not methods[0].needs_teacher:
        names.remove("teacher_name_or_path")
    missing = [name for name in names if name in values and not values[name]]
    if "learning_rate" in values and not given.get("output_dir"):
        missing.append("output_dir")
    return missing
