"""What a person sees while something works, and reads afterwards: a live display or compact lines, and `run.log`."""

from .display import Display, busy, current_display, showing, watched, within
from .log_file import LOG_NAME, logged_into, remembering
from .schedule import Schedule
from .state import Score

__all__ = [
    "LOG_NAME",
    "Display",
    "Schedule",
    "Score",
    "busy",
    "current_display",
    "logged_into",
    "remembering",
    "showing",
    "watched",
    "within",
]
