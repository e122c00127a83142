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
