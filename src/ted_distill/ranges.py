"""The values that arguments may have: declared with their types, checked wherever arguments come from.

An argument of a dataclass declares its range in its annotation:

    temperature: Annotated[float, above(0)] = 2.0

`check_ranges`, called by `__post_init__`, refuses other values, whether they come from flags, recipes or Python. A
class that inherits fields of a library declares theirs in `RANGES`, by name.
"""

from __future__ import annotations

import ast
import inspect
import math
import os
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from enum import Enum
from functools import lru_cache, partial, reduce
from inspect import isclass
from itertools import pairwise
from numbers import Integral, Real
from operator import or_
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import InputError, collect, nearest, raise_if_any, shown

T = TypeVar("T")

MOST = 2**31 - 1
"""Largest accepted integer (PyTorch and the operating system use 32 bits)."""


@dataclass(frozen=True, eq=False)
class Range:
    """Values that an argument may have.

    Attributes:
        words: the values, after "a number" or "a whole number", such as `of at least 1`; `choices` need none.
        holds: whether a finite number is one of them.
        short: the values in a line of help, such as `>= 1`; empty if there is nothing to say.
        choices: the texts, for an argument that is a text; may be a table that grows.
        advice: what to do otherwise; for messages.
        alone: `words` say everything, so no "a number" goes before them.
        text: `holds` takes a text, not a number.
        texts: texts that an argument may be instead of a number.
    """

    words: str = ""
    holds: Callable[[Any], bool] = lambda value: True
    short: str = ""
    choices: Collection[str] = ()
    advice: str = ""
    alone: bool = False
    text: bool = False
    texts: Collection[str] = ()


def at_least(low: float, or_exactly: int | None = None, or_text: Collection[str] = ()) -> Range:
    """Numbers from `low` on (up to `MOST`), and perhaps one more, or some texts, that have a meaning of their own."""
    words, short = f"of at least {low:g}", f">= {low:g}"
    if or_exactly is not None:
        words, short = f"{words}, or {or_exactly}", f"{short} or {or_exactly}"
    for text in or_text:
        words, short = f"{words}, or {text}", f"{short} or {text}"
    return Range(words, lambda value: low <= value <= MOST or value == or_exactly, short, texts=or_text)


def above(low: float, at_most: float = MOST, or_text: Collection[str] = ()) -> Range:
    """Numbers above `low`, up to and with `at_most`, and perhaps some texts with a meaning of their own."""
    words, short = f"above {low:g}", f"> {low:g}"
    if at_most != MOST:
        words, short = f"{words} and at most {at_most:,.12g}", f"{short}, <= {at_most:,.12g}"
    for text in or_text:
        words, short = f"{words}, or {text}", f"{short} or {text}"
    return Range(words, lambda value: low < value <= at_most, short, texts=or_text)


def between(low: float, high: float) -> Range:
    """Numbers from `low` to `high`, both included."""
    span = f"from {low:,.12g} to {high:,.12g}"
    return Range(span, lambda value: low <= value <= high, span.removeprefix("from "))


def inside(low: float, high: float) -> Range:
    """Numbers between `low` and `high`, both excluded."""
    return Range(f"above {low:g} and below {high:g}", lambda value: low < value < high, f"> {low:g}, < {high:g}")


def below(low: float, high: float) -> Range:
    """Numbers from `low`, included, to `high`, excluded."""
    return Range(
        f"of at least {low:g} and below {high:g}", lambda value: low <= value < high, f">= {low:g}, < {high:g}"
    )


def steps_or_share(zero: bool = False) -> Range:
    """A whole number of steps, or a share of all steps below 1; perhaps also 0."""

    def holds(value: float) -> bool:
        whole = value < 1 or value == int(value)
        return whole and (value > 0 or (zero and value == 0)) and value <= MOST

    least = "of at least 0" if zero else "above 0"
    return Range(
        f"a whole number of steps, or a share of all steps, {least}", holds, "steps, or a share < 1", alone=True
    )


def one_of(choices: Collection[str]) -> Range:
    """One of these texts."""
    return Range(choices=choices)


def a_path() -> Range:
    """A path that a file system can hold: its names have at most 255 bytes."""
    return Range("a path whose names have at most 255 bytes", _is_path, alone=True, text=True)


def _is_path(value: Any) -> bool:
    try:
        name = os.fsencode(value)
    except (TypeError, UnicodeEncodeError):
        return False
    return b"\0" not in name and len(name) < 4096 and all(len(part) <= 255 for part in name.split(b"/"))


def only(value: float, reason: str) -> Range:
    """One number, with the reason, as part of the sentence `expected 0, as ..., got 1; leave it out`."""
    return Range(f"{value:g}, {reason}", lambda given: given == value, advice="; leave it out", alone=True)


# --- checks -----------------------------------------------------------------------------------------------------


@lru_cache
def hints_of(kind: type) -> dict[str, Any]:
    """`get_type_hints` of a dataclass, which are slow to evaluate, without ranges; a `Literal` is `str` here."""
    return {name: _without_literals(hint) for name, hint in get_type_hints(kind).items()}


def _without_literals(hint: Any) -> Any:
    """A type in which texts may be any; `ranges_of` has those that are allowed."""
    if get_origin(hint) is Literal:
        return str
    inner = tuple(_without_literals(part) for part in get_args(hint))
    if inner == get_args(hint):
        return hint
    return reduce(or_, inner) if get_origin(hint) in (Union, UnionType) else get_origin(hint)[inner]


def _texts(hint: Any) -> tuple[str, ...]:
    """The texts of the `Literal` in a type; none if there is none."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(text for part in get_args(hint) for text in _texts(part))


@lru_cache
def ranges_of(kind: type) -> dict[str, Range]:
    """The range of each field of a dataclass that declares one, in its annotation or in `RANGES`, or holds an enum or
    some texts.
    """
    found: dict[str, Range] = {**getattr(kind, "RANGES", {})}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        declared = [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Range)]
        if declared:
            found[name] = declared[0]
        elif texts := _texts(hint):
            found[name] = one_of(texts)
        elif names := tuple(member.value for kind in get_args(hint) or (hint,) for member in _members(kind)):
            found[name] = one_of(names)
    return {field.name: found[field.name] for field in fields(kind) if field.name in found}


def _members(kind: Any) -> list[Enum]:
    return list(kind) if isclass(kind) and issubclass(kind, Enum) else []


def described(kind: type[T]) -> type[T]:
    """A dataclass whose fields are described by the texts below them, which editors show.

    The command line gets them as `metadata["help"]`, where a text that is made of others may be too, and `help` lists
    them all.
    """
    texts, lines = _texts_below(kind), []
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in texts:
            field.metadata = MappingProxyType({"help": texts[field.name], **field.metadata})
        if field.name in kind.__annotations__ and (text := field.metadata.get("help")):
            lines.append(f"        {field.name}: {text}")
    kind.__doc__ = "\n".join([(kind.__doc__ or "").rstrip(), "", "    Args:", *lines, "    "])
    return kind


def _texts_below(kind: type) -> dict[str, str]:
    """Field -> the text in its class that follows it; nothing where there is no source, as in a frozen program."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        return {}
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for field, below in pairwise(tree.body):
        if not (
            isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr)
        ):
            continue
        if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            found[field.target.id] = " ".join(below.value.value.split())
    return found


def range_problems(kind: type, values: Mapping[str, Any]) -> list[str]:
    """What is wrong with values of fields of `kind`, each a line "NAME: expected X, got Y"."""
    hints = hints_of(kind)
    problems = []
    for name, allowed in ranges_of(kind).items():
        if name not in values:
            continue
        number, many, optional = _numbers(hints[name])
        if (values[name] is None and optional) or (isinstance(values[name], str) and values[name] in allowed.texts):
            continue
        check = _wrong_choice if allowed.choices else partial(_wrong_value, number=number)
        if problem := check(values[name], allowed, many=many):
            problems.append(f"{name}: {problem}{allowed.advice}")
    return problems


def _kind_problems(kind: type, values: Mapping[str, Any]) -> Iterator[str]:
    """Values of fields of `kind` that are no text, list or truth value where they should be."""
    hints, ranged = hints_of(kind), ranges_of(kind)
    for name in sorted(_own_names(kind) & values.keys()):
        problem = _wrong_kind(values[name], hints[name], is_ranged=name in ranged)
        if problem:
            yield f"{name}: {problem}"


def _own_names(kind: type) -> set[str]:
    """Fields of a dataclass that no library declares, which would know better what they may be."""
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] != "transformers"]
    return {field.name for field in fields(kind)} & {name for base in own for name in inspect.get_annotations(base)}


def _wrong_kind(value: Any, hint: Any, *, is_ranged: bool) -> str:
    """What is wrong with the kind of a value; empty if nothing is. Ranges look at single values, not at lists."""
    held = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = {get_origin(part) or part for part in held} - {NoneType}
    if value is None or (is_ranged and kinds != {list}):
        return ""
    if kinds == {str} and not isinstance(value, (str, Path)):
        return f"expected text, got {shown(value)}; give one text"
    if kinds == {bool} and not isinstance(value, bool):
        return f"expected true or false, got {shown(value)}; give one or the other"
    if kinds == {list} and not isinstance(value, (list, tuple)):
        words = value.replace(",", " ").split() if isinstance(value, str) else [value]
        return f"expected a list, got {shown(value)}; write [{', '.join(shown(word) for word in words)}]"
    return ""


_PLACES = ("teacher", "student", "model_name_or_path", "teacher_name_or_path", "student_name_or_path", "dataset_name")
"""Fields that hold a folder or a name on the Hub."""


def take_values(arguments: Any) -> None:
    """Refuse values of a wrong kind, and expand paths (see `expanded`), once for all that reads them; called by the
    `__post_init__` of argument dataclasses.

    Raises:
        InputError: names each value that is no text, list or truth value where it should be, or each path with a
            variable that is not set.
    """
    kind: type = type(arguments)
    raise_if_any(_kind_problems(kind, vars(arguments)))
    paths = [name for name, allowed in ranges_of(kind).items() if allowed.holds is _is_path]
    problems: list[str] = []
    for name in sorted({*paths, *_PLACES} & vars(arguments).keys()):
        value = getattr(arguments, name)
        if isinstance(value, str | Path) and (str(value).startswith("~") or "$" in str(value)):
            with collect(problems):
                setattr(arguments, name, type(value)(expanded(str(value), name)))
    raise_if_any(problems)


_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)


def expanded(path: str, name: str = "path") -> str:
    """A path with the home folder for `~`, which it begins with, and values for `$NAME` and `${NAME}`.

    A path that is there as it is written, and has a variable that is not set, stays as it is.

    Args:
        name: what the path is, for the message.

    Raises:
        InputError: names the variables that are not set.
    """
    used = [plain or braced for plain, braced in _VARIABLE.findall(path)]
    unset = [variable for variable in used if not os.environ.get(variable)]
    if unset and not Path(path).exists():
        raise InputError(
            f"{name}: expected the variables in {path} to be set, got no {', '.join(unset)}; set what is missing "
            "(export NAME=VALUE), or write the path without it"
        )
    filled = path if unset else _VARIABLE.sub(lambda found: os.environ[found[1] or found[2]], path)
    with suppress(RuntimeError):  # of a user who does not exist
        return str(Path(filled).expanduser()) if filled.startswith("~") else filled
    return filled


def check_ranges(arguments: Any) -> None:
    """Take values, and refuse those outside their ranges; called by `__post_init__` of argument dataclasses.

    Raises:
        InputError: with all problems.
    """
    take_values(arguments)
    raise_if_any(range_problems(type(arguments), vars(arguments)))


def _numbers(hint: Any) -> tuple[type | None, bool, bool]:
    """Of a field's type: the type of its numbers, whether it holds a list of them, and whether it may be None."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    members = get_args(hint) if get_origin(hint) is not list and get_args(hint) else (hint,)
    for member in members:
        item = get_args(member)[0] if get_origin(member) is list else member
        if item in (int, float, str):
            kind = None if item is str else item
            return kind, get_origin(member) is list, NoneType in members
    return None, False, NoneType in members


def _wrong_choice(value: Any, allowed: Range, *, many: bool) -> str:
    """What is wrong with a text, or with one of a list of them; empty if they are allowed."""
    expected = f"expected one {'or more ' if many else ''}of {', '.join(allowed.choices)}"
    for item in _items(value, many):
        text = getattr(item, "value", item)
        if text not in allowed.choices:
            return f"{expected}, got {shown(text)}{nearest(str(text), allowed.choices)}"
    return ""


def _wrong_value(value: Any, allowed: Range, *, many: bool, number: type | None) -> str:
    """What is wrong with a number or a path, or with a list of them; empty if they are allowed."""
    items = _items(value, many)
    if all((allowed.text or _is_number(item, number)) and allowed.holds(item) for item in items):
        return ""
    if allowed.alone:
        return f"expected {allowed.words}, got {shown(value)}"
    noun = "number" if number is float else "whole number"
    expected = f"{noun}s" if many else f"a {noun}"
    expected += f" {allowed.words}"
    if any(_is_number(item, number) and item > MOST for item in items) and not allowed.holds(MOST + 1):
        expected += f" and at most {MOST:,}"
    return f"expected {expected}, got {shown(value)}"


def _items(value: Any, many: bool) -> list[Any]:
    return list(value) if many and isinstance(value, (list, tuple)) else [value]


def _is_number(value: Any, number: type | None) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real if number is float else Integral):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that is too large for a float
        return False
