"""What a person sees while something works, and reads afterwards: a live display or compact lines, and `run.log`."""

from .display import Display, busy, current_display, part_of, showing, watched, within
from .interrupts import (
    Terminated,
    is_postponed,
    noting_interrupts,
    postponing_interrupts,
    raise_if_interrupted,
    raise_noted,
)
from .log_file import LOG_NAME, logged_into, remembering
from .schedule import Schedule
from .state import Score

__all__ = [
    "LOG_NAME",
    "Display",
    "Schedule",
    "Score",
    "Terminated",
    "busy",
    "current_display",
    "is_postponed",
    "logged_into",
    "noting_interrupts",
    "part_of",
    "postponing_interrupts",
    "raise_if_interrupted",
    "raise_noted",
    "remembering",
    "showing",
    "watched",
    "within",
]
