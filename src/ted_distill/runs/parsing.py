"""Flags and YAML keys -> dataclasses, by transformers' own parser, with every problem reported at once."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import yaml
from transformers import HfArgumentParser

from ..errors import InputError, collect, raise_if_any


class Parser(HfArgumentParser):
    """`HfArgumentParser` that raises `InputError` instead of leaving the program."""

    def __init__(self, kinds: Sequence[type], **options: Any) -> None:
        super().__init__(list(kinds), allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Called by argparse."""
        raise InputError(message.removeprefix("argument "))

    @property
    def flags(self) -> set[str]:
        """All flags, with their dashes."""
        return {flag for action in self._actions for flag in action.option_strings if flag.startswith("--")}


def parse(kinds: Sequence[type], argv: Sequence[str], where: str = "", parser: Parser | None = None) -> tuple[Any, ...]:
    """Dataclasses of `kinds` from flags.

    Args:
        where: what the flags are of, for messages about YAML keys; empty for a command line.

    Raises:
        InputError: every unknown flag (with the nearest known one) and every value of the wrong kind.
    """
    parser = parser or Parser(kinds, add_help=False)
    problems: list[str] = []
    for flag, *values in _by_flag(argv):
        name = flag.split("=")[0]
        if name not in parser.flags:
            problems.append(_unknown(name, parser.flags, where))
            continue
        wrong: list[str] = []
        with collect(wrong):
            parser.parse_known_args([flag, *values], namespace=argparse.Namespace())
        problems += [_wrong_value(problem, where) for problem in wrong]
    raise_if_any(problems)
    return tuple(parser.parse_args_into_dataclasses(args=list(argv), look_for_args_file=False))


def to_argv(values: dict[str, Any]) -> list[str]:
    """YAML keys and values as flags, so that both have one meaning; None leaves the default."""
    argv: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            argv += [f"--{key}", json.dumps(value)]
        elif isinstance(value, (list, tuple)):
            argv += [f"--{key}", *(":".join(map(str, item)) if isinstance(item, list) else str(item) for item in value)]
        elif value is False and key.endswith("_strategy"):
            argv.append(f"--{key}=no")  # what YAML takes for a truth value
        elif value is not None:
            argv.append(f"--{key}={value}")
    return argv


def read_yaml(file: str | Path, what: str) -> dict[str, Any]:
    """Content of a YAML file of `key: value` lines.

    Raises:
        InputError: no such file (with the nearest name), or no such content.
    """
    file = Path(file)
    if not file.is_file():
        near = get_close_matches(file.name, [path.name for path in file.parent.glob("*.y*ml")], n=1)
        raise InputError(
            f"{what}: {file} does not exist" + (f"; did you mean {file.parent / near[0]}?" if near else "")
        )
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{what}: {file} is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{what}: {file} holds no `key: value` lines; recipes/ has examples")
    return content


def field_names(*kinds: type) -> set[str]:
    """Names of the fields that can be set."""
    return {field.name for kind in kinds for field in dataclasses.fields(kind) if field.init}


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing."""
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _unknown(flag: str, flags: set[str], where: str) -> str:
    if where:
        key = flag.removeprefix("--")
        return f"{where}: unknown key {key}{nearest(key, [known.removeprefix('--') for known in flags])}"
    if not flag.startswith("--"):
        return f"a flag was expected, {flag} came"
    return f"unknown flag {flag}{nearest(flag, flags)}"


def _wrong_value(problem: str, where: str) -> str:
    """What argparse says of a value, under the name that was given and not its twin with dashes."""
    flags, _, reason = problem.partition(": ")
    flag = flags.split("/")[0]
    return f"{where.split()[0]}: {flag.removeprefix('--')}: {reason}" if where else f"{flag}: {reason}"


def _by_flag(argv: Sequence[str]) -> list[list[str]]:
    """Each flag with the values that follow it."""
    groups: list[list[str]] = []
    for word in argv:
        if word.startswith("--") or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    return groups
