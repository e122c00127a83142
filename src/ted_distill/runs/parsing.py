"""YAML keys and values -> dataclasses: each value checked against the type of its field, all problems in one error."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

import numpy as np
import yaml
from pydantic import TypeAdapter

from ..errors import QUOTED, InputError, collect, nearest, raise_if_any, reason_of, shown
from ..models.exponents import EXPONENT, with_numbers
from ..ranges import hints_of, ranges_of

MAX_BYTES, MAX_NODES, MAX_LEVELS = 1_000_000, 10_000, 50
"""Limits for a YAML document: its size, and the number and depth of its values once aliases are expanded."""


Where: TypeAlias = str | Callable[[Any], str]
"""What keys belong to, for messages; a function says it of each key."""


def from_values(kinds: Sequence[type], values: Mapping[Any, Any], where: Where = "") -> tuple[Any, ...]:
    """Dataclasses of `kinds` from keys and values of a YAML file; None keeps the default.

    Args:
        where: what the keys belong to.

    Raises:
        InputError: all unknown keys (with the nearest known one), values that do not fit, and values the kinds refuse.
    """
    problems: list[str] = []
    return construct(kinds, convert(kinds, values, where, problems), where, problems)


def convert(kinds: Sequence[type], values: Mapping[Any, Any], where: Where, problems: list[str]) -> dict[str, Any]:
    """`values` converted to the types of their fields; those that do not fit are left out and added to `problems`."""
    known = settings_of(kinds)
    converted: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            name = key if isinstance(key, str) else shown(key)
            problems.append(_placed(f"unknown key {name[:QUOTED]}{nearest(name, known)}", key, where))
        elif value is not None:
            try:
                converted[key] = known[key].convert(value)
            except InputError as error:
                problems += [_placed(f"{key}: {problem}", key, where) for problem in error.problems]
    return converted


def _placed(problem: str, key: Any, where: Where) -> str:
    """A problem with a key, after what the key belongs to."""
    place = where(key) if callable(where) else where
    return f"{place}: {problem}" if place else problem


def construct(
    kinds: Sequence[type], values: Mapping[str, Any], where: Where = "", problems: Sequence[str] = ()
) -> tuple[Any, ...]:
    """Dataclasses of `kinds` from values that fit their fields.

    Args:
        problems: those found so far. If there are any, a dataclass may complain because a value was left out, so only
            its complaints about given values are added.

    Raises:
        InputError: `problems`, and the values that the dataclasses refuse.
    """
    found, made, certain = list(problems), [], not problems
    for kind in kinds:
        own = {name: values[name] for name in field_names(kind) if name in values}
        refused: list[str] = []
        with collect(refused):
            made.append(kind(**own))
        # A dataclass begins what it says of a value with the name of the field.
        named = [(problem, problem.partition(": ")[0]) for problem in refused]
        found += [_placed(problem, key, where) for problem, key in named if certain or key in own]
    raise_if_any(found)
    return tuple(made)


def field_names(*kinds: type) -> set[str]:
    """Names of the fields that can be set."""
    return {field.name for kind in kinds for field in dataclasses.fields(kind) if field.init}


def settings_of(kinds: Sequence[type]) -> dict[str, Setting]:
    """The fields of `kinds` that can be set, by name."""
    found = {}
    for kind in kinds:
        hints, ranges = hints_of(kind), ranges_of(kind)
        for field in [field for field in dataclasses.fields(kind) if field.init]:
            hint = hints[field.name]
            members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            types = tuple(member for member in members if member is not NoneType)
            one = not any(get_origin(member) is list for member in types)
            choices = ranges[field.name].choices if one and field.name in ranges else ()
            found[field.name] = Setting(field.name, types, tuple(field.metadata.get("choices") or choices))
    return found


# --- one value ------------------------------------------------------------------------------------------------

_ONE = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}
_MANY = {int: "a list of whole numbers", float: "a list of numbers"}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A field: the types it may hold besides None, and the texts it may hold, if they are limited."""

    name: str
    types: tuple[Any, ...]
    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """The allowed values, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        named = [(get_origin(kind) or kind, get_args(kind)) for kind in self.types]
        words = [_MANY.get(of[0], "a list") if kind is list else _ONE.get(kind, "an object") for kind, of in named]
        return " or ".join(words)

    def convert(self, value: Any) -> Any:
        """`value` in the type of the field.

        Raises:
            InputError: it does not fit.
        """
        value = self.as_meant(value)
        if value is False and self.name.endswith("_strategy"):
            value = "no"  # YAML reads the word as a truth value.
        if self.choices:
            if value in self.choices:
                return value
            near = nearest(shown(value).strip("'"), self.choices)
            raise InputError(f"expected {self.expected}, got {shown(value)}{near}")
        mappings = [kind for kind in self.types if dict in (kind, get_origin(kind))]
        if mappings and isinstance(value, str):
            return self._mapping(mappings[0], value)
        # If several types fit, the value's own; a text that reads as a number is one where numbers are allowed.
        own: set[Any] = {int, float} & {*self.types} if isinstance(value, str) else {type(value)}
        for kind in sorted(mappings or self.types, key=lambda kind: (get_origin(kind) or kind) not in own):
            try:
                return _fitting(kind, value)
            except (ValueError, OverflowError, RecursionError):
                continue
        hint = "; put it in quotes" if isinstance(value, bool) and str in self.types else ""
        raise InputError(f"expected {self.expected}, got {shown(value)}{hint}")

    def as_meant(self, value: Any) -> Any:
        """`value` with numbers of a YAML file as they are written, if the field holds only text."""
        return with_source(value) if self.types in ((str,), (list[str],)) and not self.choices else plain_values(value)

    def _mapping(self, kind: Any, text: str) -> Any:
        """A mapping from JSON text; a file name stays text if the field accepts that."""
        if text.lstrip().startswith("{"):
            try:
                return _fitting(kind, json.loads(text))
            except (ValueError, RecursionError) as error:
                raise InputError(f"expected a mapping in JSON, got {shown(text)}") from error
        if str not in self.types or self.name.endswith("_kwargs"):
            raise InputError(f"expected a mapping, got {shown(text)}")
        return text


def _fitting(kind: Any, value: Any) -> Any:
    """`value` as a `kind`. Raises `ValueError` where it does not fit."""
    origin = get_origin(kind) or kind
    if isinstance(value, bool) and origin in (int, float, str):
        raise ValueError("a truth value")
    if origin is list:
        (item,) = get_args(kind)
        parts = list(value) if isinstance(value, (list, tuple)) else [value]
        for place, part in enumerate(parts):
            if item is str and isinstance(part, list) and {*map(type, part)} == {int}:
                parts[place] = ":".join(map(str, part))  # a pair of blocks
        return [_fitting(item, part) for part in parts]
    if origin is str and isinstance(value, (int, float)):
        return str(value)
    if origin is int and isinstance(value, str) and EXPONENT.fullmatch(value):
        value = float(value)
    if origin is dict:
        value = TypeAdapter(dict[str, Any]).validate_python(with_numbers(value))
    if dataclasses.is_dataclass(origin) and not isinstance(value, kind):
        raise ValueError("not an object that Python code made")
    return TypeAdapter(kind).validate_python(value)


# --- YAML -----------------------------------------------------------------------------------------------------


class _WrittenInt(int):
    """An integer that remembers its spelling in the YAML file, so that a field of text gets `2024_11_05` unchanged."""

    written: str


class _WrittenFloat(float):
    """The same for `1.10`."""

    written: str


def with_source(value: Any) -> Any:
    """Numbers, also those of a list, as the text that the YAML file has; lists of lists are pairs of numbers."""
    if isinstance(value, list):
        return [plain_values(part) if isinstance(part, list) else with_source(part) for part in value]
    if isinstance(value, _WrittenInt | _WrittenFloat):
        return value.written
    # A number from Python: a recipe that is recorded is read back as this text.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else plain_values(value)


def plain_values(value: Any) -> Any:
    """The same value of Python's own kinds: no NumPy number, none that remembers how it was written, paths as text."""
    if isinstance(value, dict):
        return {plain_values(key): plain_values(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain_values(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return str(value)
    kinds: tuple[tuple[type, Any], ...] = ((_WrittenInt, int), (_WrittenFloat, float))
    return next((plain(value) for kind, plain in kinds if isinstance(value, kind)), value)


class _Loader(yaml.SafeLoader):
    """Leaves as text what is rarely meant as a number: `4:1` (base 60), `010` or `0x10` (other bases), and dates."""

    _text = re.compile(r"[-+]?(0[0-9a-zA-Z_]+|[0-9]+(:[0-9]+)+|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*)")

    def resolve(self, kind: type, value: Any, implicit: Any) -> Any:
        """The tag of a value."""
        is_text = kind is yaml.ScalarNode and implicit[0] and self._text.fullmatch(value)
        return "tag:yaml.org,2002:str" if is_text else super().resolve(kind, value, implicit)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping; a repeated key is refused, where YAML would silently use the last one."""
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value} is given twice, in lines {seen[key.value]} and {line}",
                        problem_mark=key.start_mark,
                    )
                seen[key.value] = line
        return super().construct_mapping(node, deep)


class _SourceLoader(_Loader):
    """Numbers remember how they are written."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node."""
        value = super().construct_object(node, deep)
        kinds: dict[type, Any] = {int: _WrittenInt, float: _WrittenFloat}
        if isinstance(node, yaml.ScalarNode) and type(value) in kinds:
            value = kinds[type(value)](value)
            value.written = node.value
        return value


def read_yaml(file: str | Path, what: str, source: bool = False) -> dict[Any, Any]:
    """Content of a YAML file of `key: value` lines.

    Args:
        source: see `parse_yaml`.

    Raises:
        InputError: no such file (with the nearest name), or other content.
    """
    file = Path(file)
    try:
        if not file.is_file():
            near = nearest(file.name, [path.name for path in file.parent.glob("*.y*ml")])
            raise InputError(f"{what}: {file} does not exist{near}")
        if (size := file.stat().st_size) > MAX_BYTES:
            raise InputError(f"{what}: expected at most {MAX_BYTES:,} bytes of YAML, got {size:,} in {file}")
        content = parse_yaml(file.read_text(encoding="utf-8"), f"{what}: {file}", source)
    except OSError as error:
        raise InputError(f"{what}: {str(file)[:200]} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: expected UTF-8 text in {file}, got something else ({error}); save it so") from error
    if not isinstance(content, dict):
        raise InputError(f"{what}: expected `key: value` lines in {file}, got {shown(content)}; recipes/ has examples")
    return content


def parse_yaml(text: str, where: str, source: bool = False) -> Any:
    """The value of a YAML text. Aliases are copied, so no value is shared.

    Args:
        source: whether numbers remember how they are written, for `Setting.as_meant`.

    Raises:
        InputError: invalid YAML, or too large once its aliases are expanded.
    """
    fits = False
    try:
        if _levels(text) > MAX_LEVELS:
            raise RecursionError
        loader = (_SourceLoader if source else _Loader)(text)
        if (node := loader.get_single_node()) is None:
            return None
        nodes, levels = _extent(node, {})
        fits = nodes <= MAX_NODES and levels <= MAX_LEVELS
        content = _copied(loader.construct_document(node)) if fits else None
    except RecursionError:
        pass  # too deep
    # PyYAML raises any of these for a tag that its value does not fit, such as `!!float x`.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f"{where}: not valid YAML ({reason_of(error, 1_000, whole=True)})") from error
    if not fits:
        limits = f"{MAX_NODES:,} values and {MAX_LEVELS} levels"
        raise InputError(f"{where}: expected at most {limits}, got more; remove aliases or brackets")
    return content


def _levels(text: str) -> int:
    """Levels of a document as it is written, or the first number above `MAX_LEVELS`: PyYAML takes hours for brackets
    without end."""
    levels = deepest = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            levels += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            levels -= 1
        deepest = max(deepest, levels)
        if deepest > MAX_LEVELS:
            break
    return deepest


def _extent(node: yaml.Node, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Nodes and levels of a document with its aliases expanded; infinite if an alias contains itself."""
    if id(node) not in known:
        known[id(node)] = (math.inf, math.inf)
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        inner = [_extent(part, known) for part in parts]
        known[id(node)] = (1 + sum(nodes for nodes, _ in inner), 1 + max((levels for _, levels in inner), default=0))
    return known[id(node)]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {plain_values(key): _copied(part) for key, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value
