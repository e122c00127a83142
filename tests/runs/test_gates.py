"""Requirements on the scores of a run."""

from __future__ import annotations

import pytest

from ted_distill.errors import InputError
from ted_distill.runs.gates import check_models, check_scores, read_requirement

SCORES = {
    "teacher": {"f1": 80.0, "metric": "f1"},
    "ted": {"f1": 78.0, "test_f1": 77.0, "wiki-103_f1": 90.0},
    "alone": {"f1": 0.0},
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("ted.f1 >= 0.97 * teacher.f1", True),
        ("ted.f1 >= 0.98 * teacher.f1", False),
        ("ted.f1 > 78", False),
        ("teacher.f1 - ted.f1 <= 2", True),
        ("-2 < ted.test_f1 - (ted.f1 + alone.f1)", True),
        ("ted.f1 / teacher.f1 >= 0.975", True),
        ('ted["wiki-103_f1"] > teacher.f1', True),
        ("ted['wiki-103_f1'] < ted.f1", False),
        ("ted.f1 / alone.f1 >= 1", False),
        ("ted.f1 / alone.f1 < 1", False),
    ],
)
def test_a_requirement_holds_or_does_not(text: str, holds: bool) -> None:
    assert read_requirement(text).check(SCORES).holds is holds


def test_the_verdict_says_both_sides() -> None:
    verdict = read_requirement("ted.f1 >= 0.98 * teacher.f1").check(SCORES)
    assert str(verdict) == "does not hold: ted.f1 >= 0.98 * teacher.f1 (78 and 78.4)"


@pytest.mark.parametrize(
    "text",
    [
        "ted.f1", "", "ted.f1 = 3", "ted.f1 == 3", "1 < ted.f1 < 3", "ted >= 1", "ted.f1 >= 'x'", "ted.f1 >= True",
        "__import__('os').x >= 1", "ted.f1.real >= 1", "ted.f1 >= 2 ** 9", "f(1) >= 1", "(" * 400, "ted.f1 >= 1\0",
    ],
)  # fmt: skip
def test_what_is_no_comparison_of_scores_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="require: expected"):
        read_requirement(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tde.f1 >= 1", "expected one of teacher, ted, alone, got tde"),
        ("ted.f2 >= 1", r"expected a score of ted \(f1, test_f1, wiki-103_f1\), got f2"),
        ("teacher.metric >= 1", r"expected a score of teacher \(f1\), got metric"),
        ("ted.f1 / 0 >= 1", "expected no division by 0"),
    ],
)
def test_a_requirement_on_what_is_not_there_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_requirement(text).check(SCORES)


def test_models_are_known_before_the_run() -> None:
    requirements = [read_requirement("tad.f1 >= teacher.f1")]
    assert check_models(requirements, ["teacher", "ted"]) == [
        "require: expected one of teacher, ted, got tad in 'tad.f1 >= teacher.f1'; did you mean ted?"
    ]
    assert check_models([read_requirement("ted.f1 >= 1")], ["teacher", "ted"]) == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("ted.f1 >= 50%", "without a percent sign"),
        ("ted.f1 > 1 and kd.f1 > 1", "each condition"),
        ("1 < ted.f1 < 3", "each"),
        ("ted.wiki-103_f1 >= 1", "as ted"),
        ("ted.wiki-v_f1 >= 1", "as ted"),
    ],
)
def test_a_usual_slip_has_its_own_hint(text: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        read_requirement(text)


@pytest.mark.parametrize("text", ["ted.accuracy >= 0.9", "0.9 < ted.accuracy"])
def test_a_share_in_place_of_percent_would_always_hold_and_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected accuracy in percent, as in the table, got 0\.9 .*; write 90"):
        check_scores([text], ["accuracy", "mse"], ["mse"])


def test_numbers_below_1_are_fine_where_no_percent_is_meant() -> None:
    fine = ["ted.mse <= 0.5", "ted.accuracy > 0", "ted.accuracy >= 0.9 * teacher.accuracy", "ted.parameters > 0.5"]
    check_scores(fine, ["accuracy", "mse", "parameters"], ["mse"])
