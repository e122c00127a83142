"""The display of a process that works for another: its lines and its state are handed on, and nothing is printed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ted_distill.progress import Display, Score, busy, current_display, logged_into
from ted_distill.progress.relayed import relayed


def test_lines_and_messages_are_handed_on_and_no_log_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[tuple[str, bool]] = []
    messages: list[str] = []
    with relayed(lambda text, progress: lines.append((text, progress)), messages.append) as display:
        display.restart({"accuracy": 90.0}, "seed 2 of 5")
        with logged_into(tmp_path), current_display().show_stage("kd"):
            logging.getLogger("ted_distill.somewhere").warning("a %s", "message")
            current_display().begin_training(0, 10, 4, 1)
            current_display().score(Score(5, "accuracy", 80.0, 80.0, 5))
            with busy("loading"):
                stage, loops = display.view
                assert stage is not None
                assert (stage.title, [loop.what for loop in loops]) == ("kd, seed 2 of 5", ["loading"])
    assert lines == [("kd, seed 2 of 5: step 5: accuracy 80.00 (best 80.00)", False)]
    assert messages == ["a message"]
    assert [*tmp_path.iterdir()] == []
    assert capsys.readouterr() == ("", "")


def test_what_an_error_left_is_forgotten_when_something_else_begins() -> None:
    with relayed(lambda text, progress: None, lambda text: None) as display:
        with pytest.raises(ValueError, match="wrong"), display.show_stage("kd"), busy("loading"):
            raise ValueError("wrong")
        assert display.view[0] is not None
        display.restart({}, "")
        assert display.view == (None, [])


def test_the_display_of_the_other_process_prints_lines_and_leaves_out_progress_where_it_is_quiet(
    capsys: pytest.CaptureFixture[str],
) -> None:
    display = Display(quiet=True)
    display.relay("kd: step 5 of 10", progress=True)
    display.relay("kd: done in 0:05", progress=False)
    assert capsys.readouterr().err == "kd: done in 0:05\n"
