"""What only the main process decides under `torchrun`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..errors import InputError, TrainingError

T = TypeVar("T")


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
        raise problem
    return result  # type: ignore[return-value]
