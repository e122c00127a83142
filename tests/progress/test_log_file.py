"""`run.log`: every message with its time, also those of before it was opened, and no secret."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path

import pytest

from ted_distill.progress import LOG_NAME, Score, logged_into, remembering, showing
from ted_distill.secrets import text_without_secrets

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
logger = logging.getLogger("ted_distill.tests")


def read(folder: Path) -> list[str]:
    """Lines without their times."""
    lines = (folder / LOG_NAME).read_text(encoding="utf-8").splitlines()
    assert all(re.match(STAMP + r"\S| {20}", line) for line in lines), lines
    return [line[20:] for line in lines]


def test_messages_of_before_are_in_it_and_a_second_start_is_appended(tmp_path: Path) -> None:
    with remembering():
        logger.warning("rows: %d", 3)
        with logged_into(tmp_path), showing() as display, display.show_stage("ted"):
            logger.warning("a table:\n  one\n  two")
            logger.info("too much")
            display.score(Score(5, "f1", 1.0, 1.0, 5))
    with pytest.raises(KeyboardInterrupt), logged_into(tmp_path):
        raise KeyboardInterrupt
    times = [line[:19] for line in (tmp_path / LOG_NAME).read_text(encoding="utf-8").splitlines() if line[0] != " "]
    assert times == sorted(times)
    first, *lines = read(tmp_path)
    assert first.startswith("started: ")
    assert "torch" in first
    assert lines[:5] == ["rows: 3", "a table:", "  one", "  two", "ted: step 5: f1 1.00 (best 1.00)"]
    assert lines[5].startswith("started: ")
    assert lines[6:] == ["stopped: KeyboardInterrupt"]


def test_warnings_of_python_are_shown_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    with logged_into(tmp_path), warnings.catch_warnings(record=True) as seen:
        pass
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with logged_into(tmp_path):
            warnings.warn("careful", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["careful"]
    assert "UserWarning: careful" in read(tmp_path)
    assert warnings.showwarning is before


def test_lines_that_a_quiet_display_leaves_out_are_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logged_into(tmp_path), showing(quiet=True) as display, display.show_stage("ted"):
        display.begin_training(0, 9, 1, 0)
        display._said -= 10
        display.point({"loss": 1.0})
    assert read(tmp_path)[-1] == "ted: step 0 of 9, loss 1"
    assert capsys.readouterr().err == ""


def test_messages_are_shown_as_before_where_nobody_has_set_up_logging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    with logged_into(tmp_path):
        logger.warning("once")
        logger.info("never")
        monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers, logging.NullHandler()])
        logger.warning("for the handler of the user")
    assert capsys.readouterr().err == "once\n"


def test_a_log_inside_another_is_that_one(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    with logged_into(tmp_path), logged_into(tmp_path / "stage"):
        logger.warning("here")
    assert read(tmp_path)[-1] == "here"
    assert not (tmp_path / "stage" / LOG_NAME).exists()


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).mkdir()
    with logged_into(tmp_path):
        logger.warning("lost")


def test_nothing_is_attached_to_loggers_afterwards(tmp_path: Path) -> None:
    before = list(logging.root.handlers)
    with logged_into(tmp_path):
        assert logging.root.handlers != before
    assert logging.root.handlers == before


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("could not log in with hf_" + "aB3" * 11, "could not log in with ***"),
        ("hub_token='correct horse', seed=1", "hub_token=***, seed=1"),
        ("ted run x --hub_token correct-horse --seed 1", "ted run x --hub_token *** --seed 1"),
        ("WANDB_API_KEY=abc; retrying", "WANDB_API_KEY=***; retrying"),
        ("https://me:secret@proxy.example failed", "https://***@proxy.example failed"),
        ("ted learn-filters --filter_token mean --x", "ted learn-filters --filter_token mean --x"),
        ("the token of step 5, 3 tokens, --text_column key", "the token of step 5, 3 tokens, --text_column key"),
    ],
)
def test_secrets_are_left_out_and_the_rest_is_kept(tmp_path: Path, message: str, kept: str) -> None:
    assert text_without_secrets(message) == kept
    with logged_into(tmp_path):
        logger.warning("%s", message)
    assert read(tmp_path)[-1] == kept


def test_loggers_that_print_for_themselves_are_heard_also_if_they_were_made_later(tmp_path: Path) -> None:
    """As those of transformers, which a command imports after it has begun to remember messages."""
    late = logging.getLogger("late_library")
    with remembering() as log:
        late.propagate = False
        with logged_into(tmp_path):
            late.warning("said by itself")
    assert "said by itself" in read(tmp_path)
    assert log not in late.handlers
    logging.root.manager.loggerDict.pop("late_library")
