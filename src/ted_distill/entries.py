"""The functions that Python calls: arguments of a wrong kind are refused by name, and tasks are given back as lent."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import lru_cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ParamSpec, Protocol, TypeVar, Union, get_args, get_origin, runtime_checkable

from .errors import raise_if_any, shown

P = ParamSpec("P")
R = TypeVar("R")

_WORDS: dict[type, str] = {str: "text", Path: "a path", Mapping: "a dict", Iterable: "a list"}
_PLAIN = (str, bytes, int, float, list, tuple, set, dict, NoneType)
"""Values that a message quotes; of others it names the type."""
_SEEN_ELSEWHERE = (int, float, bool, complex)
"""Numbers, which their ranges check: those of NumPy are as good."""
_ADVICE = {
    "DistillArguments": 'DistillArguments(method="kd") makes one',
    "LearnFiltersArguments": "LearnFiltersArguments() makes one",
    "ModelArguments": 'ModelArguments(model_revision="main") makes one',
    "Recipe": "give a recipe's file or name, or a dict of its keys",
    "StageArguments": 'StageArguments("runs/x", num_train_epochs=3) makes one, with all of TrainingArguments',
    "Task": 'load_task("sst2") or load_task(TaskArguments(...)) makes one',
    "TaskArguments": 'TaskArguments("sst2", train_file="rows.csv") makes one',
    "TrimArguments": 'TrimArguments(texts=["rows.csv"]) makes one',
}
"""Name of a type -> how to come by one."""


@runtime_checkable
class Lent(Protocol):
    """What a stage may change while it works, and nobody else may notice."""

    def lent(self) -> AbstractContextManager[None]:
        """It is as before when this ends."""


def entry(function: Callable[P, R]) -> Callable[P, R]:
    """`typed`, and what is `Lent`, such as a task, is afterwards as it was: one stage does not change the next."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as stack:
            for value in (*args, *kwargs.values()):
                if isinstance(value, Lent):
                    stack.enter_context(value.lent())
            return function(*args, **kwargs)

    return typed(call)


def typed(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse arguments that are of none of the types in the signature.

    Numbers and what is in a sequence are left to the function, as are models and rows, which may be of many types.

    Raises:
        InputError: names each argument, what was expected, what was found, and how to come by what was expected.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            given = inspect.signature(function).bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{function.__name__}() {error}") from None
        raise_if_any(_problems(given, _kinds_of(function)))
        return function(*args, **kwargs)

    return call


def _problems(given: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> Iterator[str]:
    for name, value in given.items():
        if name in kinds and not isinstance(value, kinds[name]):
            wanted = [_WORDS.get(kind, kind.__name__) for kind in kinds[name] if kind is not NoneType]
            advice = [_ADVICE[kind.__name__] for kind in kinds[name] if kind.__name__ in _ADVICE]
            got = shown(value) if isinstance(value, _PLAIN) else type(value).__name__
            expected = " or ".join(filter(None, [", ".join(wanted[:-1]), wanted[-1]]))
            yield f"{name}: expected {expected}, got {got}; {advice[0] if advice else 'give one'}"


@lru_cache
def _kinds_of(function: Callable[..., Any]) -> dict[str, tuple[type, ...]]:
    """Argument -> the types that it may have, of those that are checked."""
    hints = inspect.get_annotations(function, eval_str=True)
    found = {name: _kinds(hint) for name, hint in hints.items() if name != "return"}
    return {name: kinds for name, kinds in found.items() if kinds is not None}


def _kinds(hint: Any) -> tuple[type, ...] | None:
    """The types that a value may have; None where this is not checked here."""
    if get_origin(hint) in (Union, UnionType):
        parts = [_kinds(part) for part in get_args(hint)]
        return None if None in parts else tuple(kind for part in parts if part for kind in part)
    if hint is None:
        return (NoneType,)
    kind = get_origin(hint) or hint
    if not inspect.isclass(kind) or kind is Any or kind in _SEEN_ELSEWHERE:
        return None
    if kind in (Sequence, list):
        return (Iterable,)
    return (kind,) if kind is Mapping or (get_origin(hint) is None and kind is not tuple) else None
