"""What a comparison says of a pair of methods."""

from __future__ import annotations

from typing import Any

import pytest

from ted_distill.runs.compare.verdicts import notes, table, verdicts

OF_F1: dict[str, Any] = {"metric": "f1", "lower_is_better": False, "seeds": [1, 2, 3]}
PAIR: dict[str, Any] = {"better": "ted", "worse": "kd", "difference": 2.5, "interval": [0.5, 4.6]}


@pytest.mark.parametrize(
    ("p_holm", "p_bootstrap_holm", "told_apart", "said"),
    [
        (0.017, 0.07, False, "TED and KD cannot be told apart: f1 +2.50 (95 % interval +0.50 to +4.60, p = 0.070)."),
        (0.2, 0.01, False, "TED and KD cannot be told apart: f1 +2.50 (95 % interval +0.50 to +4.60, p = 0.200)."),
        (0.03, 0.0001, True, "TED is better than KD: f1 +2.50 (95 % interval +0.50 to +4.60, p = 0.030)."),
        (None, 0.01, False, "TED and KD cannot be told apart: f1 +2.50 (95 % interval +0.50 to +4.60)."),
    ],
)
def test_the_p_value_that_is_said_is_the_one_that_decides(
    p_holm: float | None, p_bootstrap_holm: float, told_apart: bool, said: str
) -> None:
    pair = {**PAIR, "p_holm": p_holm, "p_bootstrap_holm": p_bootstrap_holm, "told_apart": told_apart}
    assert verdicts({**OF_F1, "comparisons": [pair]}) == [said]


def test_a_lower_perplexity_is_a_negative_difference() -> None:
    pair = {**PAIR, "p_holm": 0.01, "p_bootstrap_holm": 0.01, "told_apart": True}
    of_text = {"metric": "perplexity", "lower_is_better": True, "seeds": [1, 2, 3], "comparisons": [pair]}
    assert verdicts(of_text) == ["TED is better than KD: perplexity -2.50 (95 % interval -4.60 to -0.50, p = 0.010)."]


def test_no_difference_has_no_minus() -> None:
    none = {**PAIR, "difference": 0.001, "interval": [-0.004, 0.0], "p_holm": 1.0, "p_bootstrap_holm": 1.0}
    pairs = [{**none, "told_apart": False}]
    of_text = {"metric": "perplexity", "lower_is_better": True, "seeds": [1, 2, 3], "comparisons": pairs}
    (said,) = verdicts(of_text)
    assert said.endswith("perplexity +0.00 (95 % interval +0.00 to +0.00, p = 1.000).")


CONTENT = {
    **OF_F1, "rows": 10, "split": "validation", "chosen_weights": [], "resamples": 10, "comparisons": [],
    "search": None, "steps": {"alone": 300, "ted": 300}, "methods": ["alone", "ted"], "gap_closed": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "scored with the last weights; sd over the seeds. All methods start from the same student and train",
        ),
        ({"steps": {"student": 9, "alone": 300, "ted": 300}}, "All methods start from the same student and train"),
        ({"chosen_weights": ["alone", "ted"]}, "scored with the weights that the recipe's evaluations chose; sd"),
        ({"chosen_weights": ["ted"]}, "the last weights; for TED the best of several evaluations on these rows"),
        ({"chosen_weights": ["ted"], "split": "test"}, "several evaluations on the validation rows; sd"),
        (
            {"steps": {"alone": 300, "ted": 1000}},
            "the same student, but do not train equally long: student alone 300 updates, TED 1,000 updates.",
        ),
    ],
)
def test_what_methods_do_not_have_in_common_is_said(changes: dict[str, Any], said: str) -> None:
    assert said in notes({**CONTENT, **changes})[0]


@pytest.mark.parametrize(
    ("steps", "title"), [({}, "student, before training"), ({"student": 9}, "student, fine-tuned")]
)
def test_a_student_that_was_fine_tuned_is_called_so(steps: dict[str, int], title: str) -> None:
    scores = {"teacher": {"f1": 60.0}, "student": {"f1": 50.0}}
    content = {**CONTENT, "methods": [], "steps": steps, "scores": scores, "parameters": {"teacher": 9, "student": 5}}
    assert f"\n| {title} " in table(content)


@pytest.mark.parametrize(("closed", "is_said"), [({}, False), ({"kd": None}, True), ({"kd": None, "ted": 0.5}, False)])
def test_that_there_is_no_gap_is_said_of_methods_that_could_close_it(
    closed: dict[str, float | None], is_said: bool
) -> None:
    content = {**CONTENT, "methods": ["alone", *closed], "gap_closed": closed}
    assert any("there is no gap to close" in note for note in notes(content)) is is_said


def test_a_search_for_the_rate_is_in_the_seconds_of_the_table() -> None:
    methods = ["alone", "ted"]
    content = {
        **CONTENT, "scores": {"teacher": {"f1": 80.0}, "student": {"f1": 50.0}}, "parameters": {},
        "intervals": {name: [70.0, 70.0] for name in methods}, "standard_deviations": dict.fromkeys(methods),
        "agreement": {name: [{"agreement": 90.0}] for name in methods}, "means": dict.fromkeys(methods, 70.0),
        "seconds": {name: [10.0, 20.0] for name in methods}, "search_seconds": {"ted": [30.0, 36.0]},
    }  # fmt: skip
    cells = {row[0].strip(): row[-1].strip() for row in (line.split("|")[1:-1] for line in table(content).splitlines())}
    assert (cells["student alone"], cells["TED"]) == ("15", "15 + 33 search")


def test_rates_that_each_method_found_are_said() -> None:
    (said,) = notes({**CONTENT, "found_rates": {"alone": [2e-4, 2e-4], "ted": [1e-4, 5e-4]}})[2:3]
    assert said.startswith(
        "Learning rates found by each method and seed on training rows held out: student alone 0.0002; TED 0.0001 to "
    )
    assert "makes low rates look too good" in said
