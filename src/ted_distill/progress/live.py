"""The live display of a terminal, drawn with rich: a few lines that change in place, and messages above them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..wording import clock
from . import words
from .state import Loop, StageState
from .streams import printed_above

_A_SECOND = 4
_NARROW = 60
"""Columns below which bars are left out."""


def has_terminal() -> bool:
    """Whether stderr is a terminal on which lines can change."""
    stream = sys.stderr
    return stream is not None and stream.isatty() and not Console(file=stream, force_terminal=True).is_dumb_terminal


class LiveScreen:
    """Draws what `picture` returns several times a second, and prints lines above it."""

    def __init__(self, picture: Callable[[int], RenderableType]) -> None:
        self._console = Console(file=sys.stderr, force_terminal=True, highlight=False, markup=False)
        self._live = Live(
            get_renderable=lambda: picture(self._console.width),
            console=self._console, refresh_per_second=_A_SECOND, redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def line(self, text: str) -> None:
        """Print a line above the display."""
        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Draw until it ends; if that is because of an error, or an interruption, the last state stays."""
        self._live.start(refresh=True)
        try:
            with printed_above(self.line):
                yield
            self._live.transient = True
        finally:
            self._live.stop()


def picture(stage: StageState | None, loops: list[Loop], run_left: float | None, width: int) -> RenderableType:
    """What is going on, in at most `width` columns.

    Args:
        run_left: seconds until the end of the run, if they are known.
    """
    lines: list[RenderableType] = []
    if stage is not None:
        lines.append(_heading(stage, run_left))
        if stage.steps:
            lines.append(_row(_bar(stage.step, stage.steps, width), [_steps(stage), *words.pace(stage, None)]))
        if stage.loss is not None:
            lines.append(_text(words.losses(stage)))
        if stage.score is not None:
            lines.append(_text(words.scores(stage.score)))
    lines += [_loop(loop, width) for loop in loops]
    return Group(*lines)


def pictures(views: list[tuple[StageState | None, list[Loop]]], run_left: float | None, width: int) -> RenderableType:
    """What is going on in this process and, below that, in those that work for it, in at most `width` columns."""
    (stage, loops), *others = views
    return Group(picture(stage, loops, run_left, width), *(picture(*other, None, width) for other in others))


def _heading(stage: StageState, run_left: float | None) -> RenderableType:
    row = Table.grid(expand=True, padding=(0, 2, 0, 0))
    row.add_column(ratio=1, no_wrap=True)
    row.add_column(justify="right", no_wrap=True)
    so_far = f"{clock(stage.seconds)} so far"
    right = so_far if run_left is None else f"run: about {clock(run_left)} left"
    row.add_row(Text(words.heading(stage), style="bold", overflow="ellipsis"), Text(right))
    return row


def _steps(stage: StageState) -> str:
    return f"step {stage.step:,} of {stage.steps:,}"


def _loop(loop: Loop, width: int) -> RenderableType:
    left = loop.seconds_left
    time = clock(loop.seconds) if left is None else f"{clock(left)} left"
    bar = _bar(loop.done, loop.total, width) if loop.unit and loop.total else None
    return _row(bar, [loop.what, *([words.loop_amount(loop)] if loop.unit else []), time])


def _bar(done: int, total: int | None, width: int) -> ProgressBar | None:
    return None if width < _NARROW else ProgressBar(total=total, completed=done)


def _row(bar: ProgressBar | None, cells: list[str]) -> RenderableType:
    """A bar that takes the room which the words beside it leave."""
    text = _text("  ".join(cells))
    if bar is None:
        return text
    row = Table.grid(expand=True, padding=(0, 2, 0, 0))
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    row.add_row(bar, text)
    return row


def _text(text: str) -> Text:
    return Text(text, overflow="ellipsis", no_wrap=True)
