"""Several processes, as `torchrun` starts them: how many there are, and what only the main one decides."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from ..errors import InputError, TrainingError, shown

T = TypeVar("T")
_OF_MAIN = "of_main"
"""Attribute of an error that the main process raised for all."""


def process_count() -> int:
    """How many processes a launcher started together, this one among them; 1 without a launcher.

    Raises:
        InputError: the environment has something else than a whole number. So do `process_rank` and `local_rank`.
    """
    return _variable("WORLD_SIZE", 1)


def process_rank() -> int:
    """The number of this process among all that a launcher started; the main one is 0."""
    return _variable("RANK", 0) if os.environ.get("WORLD_SIZE") else 0


def local_rank() -> int | None:
    """The number of this process on its machine; None without a launcher."""
    found = _variable("LOCAL_RANK", -1)
    return found if found >= 0 else None


def _variable(name: str, default: int) -> int:
    value = os.environ.get(name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError as error:
        raise InputError(
            f"{name}: expected a whole number in the environment, as torchrun sets it, got {shown(value)}; unset it"
        ) from error


def on_main(decide: Callable[[], T]) -> T:
    """The result of `decide` on the main process, on every process; an error it raises is raised everywhere."""
    state = PartialState()
    if state.num_processes == 1:
        return decide()
    outcome: list[tuple[T | None, Exception | None]] = [(None, None)]
    if state.is_main_process:
        try:
            outcome = [(decide(), None)]
        except (InputError, TrainingError) as error:
            outcome = [(None, error)]
    broadcast_object_list(outcome)
    result, problem = outcome[0]
    if problem is not None:
        vars(problem)[_OF_MAIN] = True
        raise problem
    return result  # type: ignore[return-value]


def is_said_elsewhere(error: BaseException) -> bool:
    """Whether the main process says why a command ends: it does of what ends all of them."""
    own = isinstance(error, (InputError, TrainingError, OSError)) and _OF_MAIN not in vars(error)
    return process_rank() > 0 and not own


def gathered(value: T) -> list[T]:
    """What every process has, by rank; each waits for all."""
    return [value] if PartialState().num_processes == 1 else list(gather_object([value]))
