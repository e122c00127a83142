"""What a pipe, a file or a notebook gets: one compact line at a time, word for word."""

from __future__ import annotations

import io
import sys

import pytest

from ted_distill.progress import Display, Schedule, Score, within
from ted_distill.progress.streams import Lines
from ted_distill.progress.words import rate

POINT = {
    "loss": 0.4123, "pred_loss": 0.31, "match_loss": 0.0501, "layer_loss": 0.005, "grad_norm": 3.0,
    "layer_loss/teacher_4_student_2": 0.005, "learning_rate": 1e-4,
}  # fmt: skip


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def train(display: Display, clock: Clock, first: int, last: int, seconds: float, evaluations_left: int = 0) -> None:
    """Steps after `first` up to `last`, each of which takes some seconds."""
    for step in range(first + 1, last + 1):
        clock.now += seconds
        display.step(step, evaluations_left)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert "\r" not in err
    assert "{" not in err
    return err.splitlines()


def test_a_point_of_the_curves_is_a_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(clock=clock)
    with display.show_stage("ted"):
        display.begin_training(0, 500, 55, 0)
        train(display, clock, 0, 120, 0.263)
        display.point(POINT)
    assert lines(capsys) == [
        "ted: step 120 of 500, loss 0.412 (pred 0.31, match 0.0501, layer 0.005), 209 rows/s, 1:40 left"
    ]


def test_points_in_quick_succession_are_one_line_in_five_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(clock=clock)
    with display.show_stage("kd"):
        display.begin_training(0, 12, 1, 0)
        for step in range(12):
            train(display, clock, step, step + 1, 2.0)
            display.point({"loss": float(step)})
    assert [line.partition(",")[0] for line in lines(capsys)] == [f"kd: step {step} of 12" for step in (3, 6, 9, 12)]


def test_slow_steps_are_a_line_a_minute_before_the_first_point(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(clock=clock)
    with display.show_stage("finetune_teacher"):
        display.begin_training(0, 400, 8, 0)
        train(display, clock, 0, 5, 25.0)
    assert lines(capsys) == ["finetune teacher: step 3 of 400, 0.32 rows/s, 2:45:25 left"]


def test_an_evaluation_is_a_line_beside_the_best_and_the_teacher(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(clock=clock)
    with display.show_stage("ted"):
        display.begin_training(0, 500, 16, 4)
        display.score(Score(120, "spearmanr", 83.214, 83.4, 60, 84.8))
        display.score(Score(180, "perplexity", 12.5, 12.5, 180))
    assert lines(capsys) == [
        "ted: step 120: spearmanr 83.21 (best 83.40, teacher 84.80)",
        "ted: step 180: perplexity 12.50 (best 12.50)",
    ]


def test_scores_of_stage_one_say_whose_they_are(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(clock=clock)
    with display.show_stage("learn_filters_teacher"):
        display.score(Score(40, "accuracy", 71.2, 71.2, 40, None, "mean over filter heads"))
    assert lines(capsys) == ["learn filters teacher: step 40: accuracy (mean over filter heads) 71.20 (best 71.20)"]


def test_rows_a_second_leave_evaluations_out_and_the_time_left_counts_those_to_come(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(clock=clock)
    with display.show_stage("ted"):
        display.begin_training(0, 200, 10, 2)
        train(display, clock, 0, 100, 0.1, evaluations_left=2)
        with display.show_loop("evaluating", 50, "rows"):
            clock.now += 20
        display.score(Score(100, "f1", 50.0, 50.0, 100))
        train(display, clock, 100, 110, 0.1, evaluations_left=1)
        display.point({"loss": 1.0})
    assert lines(capsys)[-1] == "ted: step 110 of 200, loss 1, 100 rows/s, 0:29 left"  # 9 of steps, 20 of scoring


def test_a_resumed_stage_counts_its_speed_from_where_it_went_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(clock=clock)
    with display.show_stage("ted"):
        display.begin_training(90, 100, 10, 0)
        display.recall({"loss": 2.0}, Score(90, "f1", 50.0, 60.0, 30))
        clock.now += 60
        display.step(91, 0)
    assert lines(capsys) == ["ted: step 91 of 100, loss 2, 0.167 rows/s, 9:00 left"]


def test_the_time_left_of_a_run_is_told_once_similar_stages_were_measured(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two methods that take equally long for a step; the first stage is like no other."""
    schedule = Schedule(
        ["alone", "kd", "ted"], lambda name, features: features, lambda name: "alone" if name == "alone" else "taught"
    )
    display = Display(schedule, clock=clock)
    with display.show_stage("alone"):
        display.begin_training(0, 100, 1, 0)
        train(display, clock, 0, 50, 0.2)
        display.point({"loss": 1.0})
    schedule.finished("alone", {"seconds": 20.0, "steps": 100, "train_features": 100})
    with display.show_stage("kd"):
        display.begin_training(0, 100, 1, 0)
        train(display, clock, 0, 50, 1.0)
        display.point({"loss": 1.0})
    schedule.finished("kd", {"seconds": 100.0, "steps": 100, "train_features": 100})
    with display.show_stage("ted"):
        display.begin_training(0, 100, 1, 0)
        train(display, clock, 0, 50, 1.0)
        display.point({"loss": 1.0})
    assert lines(capsys) == [
        "alone: step 50 of 100, loss 1, 5 rows/s, 0:10 left",
        "kd: step 50 of 100, loss 1, 1 rows/s, 0:50 left (run 2:30)",
        "ted: step 50 of 100, loss 1, 1 rows/s, 0:50 left",
    ]


def test_a_long_loop_says_how_far_it_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(clock=clock)
    with display.show_stage("ted"), display.show_loop("evaluating", 9000, "rows") as loop:
        for _ in range(4):
            clock.now += 10
            display.advance(loop, 1500)
    with display.show_loop("measuring", None, "batches") as loop:
        clock.now += 40
        display.advance(loop, 2)
    assert lines(capsys) == [
        "ted: evaluating, 4,500 of 9,000 rows, 0:30 left",
        "measuring, 2 batches",
    ]


def test_a_quiet_display_shows_scores_and_ends_alone(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(quiet=True, clock=clock)
    with display.show_stage("ted"):
        display.begin_training(0, 10, 1, 0)
        train(display, clock, 0, 5, 100.0)
        display.point({"loss": 1.0})
        display.score(Score(5, "f1", 1.0, 1.0, 5))
        display.end_stage(250.4, "f1 1.00")
    assert lines(capsys) == ["ted: step 5: f1 1.00 (best 1.00)", "ted: done in 4:10, f1 1.00"]


def test_a_part_of_a_stage_is_named_and_has_no_end_of_its_own(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(clock=clock)
    with display.show_stage("kd"):
        with display.show_part("trying rate 0.0001"), display.show_stage("finetune"):
            display.score(Score(5, "f1", 1.0, 1.0, 5))
            display.end_stage(1.0, "f1 1.00")
        display.end_stage(9.0, "f1 2.00")
    assert lines(capsys) == [
        "kd, trying rate 0.0001: step 5: f1 1.00 (best 1.00)",
        "kd: done in 0:09, f1 2.00",
    ]


def test_what_a_run_is_a_part_of_is_named_in_all_its_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with within("seed 2 of 5"):
        display = Display(clock=clock)
        with display.show_stage("kd"):
            display.end_stage(9.0, "f1 2.00")
    with Display(clock=clock).show_stage("kd") as stage:
        assert stage.title == "kd"
    assert lines(capsys) == ["kd, seed 2 of 5: done in 0:09, f1 2.00"]


def test_a_reader_who_has_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    display = Display()
    with display.show_stage("ted"):
        display.end_stage(1.0, "")


def test_rates_are_short() -> None:
    assert [rate(value) for value in (209.6, 12345, 9.96, 0.512)] == [
        "210 rows/s", "12,345 rows/s", "9.96 rows/s", "0.512 rows/s",
    ]  # fmt: skip


def test_a_stream_above_a_display_has_the_encoding_of_the_terminal() -> None:
    """Code of others encodes with it."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace")
    lines = Lines(stream, lambda line: None)
    assert (lines.encoding, lines.errors) == ("utf-8", "replace")
