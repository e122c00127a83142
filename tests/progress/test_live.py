"""The live display of a terminal: what it draws, and what becomes of everything else that is written meanwhile."""

from __future__ import annotations

import io
import logging
import os
import re
import sys

import pytest
from rich.console import Console

from ted_distill.progress import Display, Schedule, Score, showing
from ted_distill.progress.live import picture
from ted_distill.progress.state import Loop, StageState

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


def terminal_for(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Makes stderr a terminal; not a fixture, as pytest puts its own stderr in place after those."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def screen(text: str) -> list[str]:
    """What a terminal shows after it was written all this."""
    lines, row = [""], 0
    for control, number, kind, plain in re.findall(r"(\x1b\[([?\d;]*)([A-Za-z]))|([^\x1b\r\n]+|\r|\n)", text):
        if kind == "A":
            row -= int(number or 1)
        elif kind == "K":
            lines[row] = ""
        elif plain == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif not control and plain != "\r":
            lines[row] += plain
    return [line.rstrip() for line in lines]


def drawn(stage: StageState | None, loops: list[Loop], run_left: float | None, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, record=True)
    console.print(picture(stage, loops, run_left, width))
    return [line.rstrip() for line in console.export_text().splitlines()]


def clock() -> float:
    return 10.0


def stage_of_a_run() -> StageState:
    stage = StageState("ted", 5, 7, clock=clock)
    stage.begin(0, 500, 55, 3)
    stage._marks.extend([(10.0 + 0.25 * step, step) for step in (60, 120)])
    stage.step = 120
    stage.logged({"loss": 0.412, "pred_loss": 0.31, "match_loss": 0.05, "layer_loss": 0.005})
    stage.score = Score(120, "spearmanr", 83.21, 83.4, 60, 84.8)
    return stage


def test_a_stage_of_a_run_at_eighty_columns() -> None:
    loop = Loop("evaluating", 400, "rows", clock, done=100)
    found = drawn(stage_of_a_run(), [loop], 750.0, 80)
    assert found[0] == "stage 5 of 7: ted                                          run: about 12:30 left"
    assert re.fullmatch(r"[━╸╺ ]{20,}  step 120 of 500  220 rows/s  1:35 left", found[1])
    assert found[2] == "loss 0.412 (pred 0.31, match 0.05, layer 0.005)"
    assert found[3] == "spearmanr 83.21 at step 120, best 83.40 at step 60, teacher 84.80"
    assert re.fullmatch(r"[━╸╺ ]{20,}  evaluating  100 of 400 rows  0:00 left", found[4])
    assert len(found) == 5
    assert max(map(len, found)) <= 80


def test_a_single_stage_has_no_number_and_a_narrow_terminal_no_bars() -> None:
    stage = StageState("finetune", clock=clock)
    found = drawn(stage, [Loop("tokenising", clock=clock)], None, 40)
    assert found == ["finetune                     0:00 so far", "tokenising  0:00"]
    stage.begin(0, 8, 1, 0)
    assert drawn(stage, [], None, 40)[1] == "step 0 of 8"


def test_of_a_part_that_is_over_nothing_is_left() -> None:
    display = Display()
    with display.show_stage("kd") as stage:
        with display.show_part("trying rate 0.1"):
            display.begin_training(0, 8, 1, 0)
            display.point({"loss": 1.0})
            assert len(drawn(stage, [], None, 80)) == 3
        assert len(drawn(stage, [], None, 80)) == 1


def test_long_lines_are_cut_and_never_wrapped() -> None:
    stage = stage_of_a_run()
    stage.name = "learn_filters_" + "x" * 100
    stage.score = Score(120, "a" * 90, 83.21, 83.4, 60)
    found = drawn(stage, [], 750.0, 60)
    assert len(found) == 4
    assert max(map(len, found)) <= 60


def test_messages_are_whole_lines_above_the_display_and_it_leaves_the_terminal_clean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_for(monkeypatch)
    logger = logging.Logger("of a library")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logging.root.manager.loggerDict["of a library"] = logger
    long = "a message that is longer than the terminal is wide " * 4
    try:
        with showing(Schedule(["kd", "ted"])) as display, display.show_stage("ted"):
            display.begin_training(0, 500, 16, 0)
            logger.warning("%s", long)
            # As warnings do; those of a test are collected.
            print("x.py:1: UserWarning: of Python", file=sys.stderr)
            sys.stderr.write("bar 10 %\rbar 90 %\rbar 100 %\n")
            sys.stderr.write("half a line")
            display.end_stage(100.0, "f1 80.00")
    finally:
        del logging.root.manager.loggerDict["of a library"]
    text = terminal.getvalue()
    first, second, *others = screen(text)
    assert first == long.rstrip()
    assert second.endswith("UserWarning: of Python")
    assert others[-4:] == ["bar 100 %", "ted: done in 1:40, f1 80.00", "half a line", ""]
    assert sys.stderr is terminal
    assert logger.handlers[0].stream is terminal
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_an_interruption_leaves_the_last_state_and_the_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)

    def work() -> None:
        with showing() as display, display.show_stage("ted"):
            display.begin_training(0, 500, 16, 0)
            display.step(7, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    text = terminal.getvalue()
    heading, steps, *nothing = screen(text)
    assert heading.startswith("ted ")
    assert "  step 7 of 500  " in steps
    assert set(nothing) <= {""}
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_a_finished_display_leaves_only_the_lines_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)
    with showing() as display, display.show_stage("ted"):
        display.begin_training(0, 500, 16, 0)
        display.end_stage(100.0, "f1 80.00")
    assert [line for line in screen(terminal.getvalue()) if line] == ["ted: done in 1:40, f1 80.00"]


def test_what_is_piped_elsewhere_stays_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = terminal_for(monkeypatch)
    with showing():
        sys.stdout.write("a result\n")
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in terminal.getvalue()


@pytest.mark.parametrize("changes", [{"quiet": True}, {"TERM": "dumb"}])
def test_there_is_none_where_it_was_turned_off_or_lines_cannot_change(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    terminal = terminal_for(monkeypatch)
    if term := changes.get("TERM"):
        monkeypatch.setenv("TERM", str(term))
    with showing(quiet=bool(changes.get("quiet"))) as display, display.show_stage("ted"):
        display.score(Score(5, "f1", 1.0, 1.0, 5))
    assert terminal.getvalue() == "ted: step 5: f1 1.00 (best 1.00)\n"


def test_colours_that_are_forced_do_not_make_a_terminal_of_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with showing() as display, display.show_stage("ted"):
        display.score(Score(5, "f1", 1.0, 1.0, 5))
    assert capsys.readouterr().err == "ted: step 5: f1 1.00 (best 1.00)\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_for(monkeypatch)
    with showing():
        child = os.fork()
        if not child:
            os._exit(0 if sys.stderr is terminal else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert sys.stderr is not terminal


def test_one_display_inside_another_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with showing() as outer, showing() as inner:
        assert inner is outer
    with showing() as later:
        assert isinstance(later, Display)
        assert later is not outer
