"""Exact match, token F1 and their aggregates, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ted_distill.tasks.squad.metrics import best_threshold, exact_match, normalise_answer, squad_scores, token_f1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("a cat, an owl & the hen", "cat owl hen"),
        ("theatre", "theatre"),
        ("«Beyoncé»", "«beyoncé»"),  # only ASCII punctuation goes
        ("U.S.A.", "usa"),
        ("well-known", "wellknown"),
        ("\t\u00a0ÜBER\n alles ", "über alles"),
        ("a-the", "athe"),  # punctuation goes first, so no article is left
        ("cat—the—dog", "cat— —dog"),
        ("The", ""),
        ("", ""),
    ],
)
def test_case_punctuation_articles_and_spaces_do_not_count(text: str, normal: str) -> None:
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "f1"),
    [
        ("the cat", "Cat.", 1, 1),
        ("black cat", "cat", 0, 2 / 3),
        ("cat cat dog", "cat dog dog", 0, 2 / 3),  # words are a multiset: cat once, dog once
        ("in the year 1066", "1066", 0, 1 / 2),
        ("東京", "東京", 1, 1),
        ("dog", "cat", 0, 0),
        ("", "cat", 0, 0),
        ("cat", "", 0, 0),
        ("", "", 1, 1),
        ("the", "", 1, 1),
    ],
)
def test_exact_match_and_f1_of_a_pair(answer: str, gold: str, exact: float, f1: float) -> None:
    assert exact_match(answer, gold) == exact
    assert token_f1(answer, gold) == pytest.approx(f1, abs=1e-12)


def test_the_best_of_several_gold_answers_counts() -> None:
    scores = squad_scores({"q": "black cat"}, {"q": ["cat", "big black cat", "dog"]})
    assert scores == {"exact_match": 0.0, "f1": pytest.approx(80.0), "total": 1.0}


def test_answerable_and_unanswerable_questions_are_scored_apart() -> None:
    answers = {"a": "cat", "b": "black cat", "c": "", "d": "dog", "not asked": "x"}
    gold = {"a": ["the cat"], "b": ["cat"], "c": [], "d": []}
    scores = squad_scores(answers, gold, by_answerable=True)
    assert scores == {
        "exact_match": 50.0,
        "f1": pytest.approx(100 * (1 + 2 / 3 + 1) / 4),
        "total": 4.0,
        "HasAns_exact": 50.0,
        "HasAns_f1": pytest.approx(100 * (1 + 2 / 3) / 2),
        "HasAns_total": 2.0,
        "NoAns_exact": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2.0,
    }


def test_a_kind_of_question_that_is_absent_has_no_score() -> None:
    scores = squad_scores({"a": "cat"}, {"a": ["cat"]}, by_answerable=True)
    assert "HasAns_f1" in scores
    assert not any(key.startswith("NoAns") for key in scores)


def test_a_gold_answer_of_articles_only_does_not_make_an_empty_answer_right() -> None:
    assert squad_scores({"q": ""}, {"q": ["the", "cat"]})["exact_match"] == 0.0
    # Where nothing else is left, the empty answer is the right one, as the official script has it.
    assert squad_scores({"q": ""}, {"q": ["the"]})["exact_match"] == 100.0


def test_best_threshold_by_hand() -> None:
    answers = {"a": "cat", "b": "wrong", "c": "dog", "d": "right"}
    gold = {"a": ["cat"], "b": [], "c": ["big dog"], "d": ["right"]}
    odds = {"d": 5.0, "c": 1.0, "b": 2.0, "a": -3.0, "not asked": -9.0}
    scores = squad_scores(answers, gold, odds)
    # No answers: 1 right (b). From -3: a too. From 1: c adds 0 to exact, 2/3 to F1. From 2: b is lost. From 5: d.
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (50.0, -3.0)
    assert (scores["best_f1"], scores["best_f1_thresh"]) == (pytest.approx(100 * (2 + 2 / 3) / 4), 1.0)


def test_best_threshold_is_the_best_of_all_thresholds() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        values, odds = generator.random(12), generator.normal(size=12)
        has_answer, answered = generator.random(12) < 0.6, generator.random(12) < 0.8
        best, threshold = best_threshold(values, has_answer, answered, np.arange(12), odds)

        def at(limit: float, values=values, odds=odds, has_answer=has_answer, answered=answered) -> float:
            speaks = odds <= limit
            right = np.where(has_answer, np.where(speaks, values, 0.0), np.where(speaks & answered, 0.0, 1.0))
            return 100 * right.mean()

        assert best == pytest.approx(max(at(limit) for limit in [-np.inf, *odds]))
        if threshold:
            assert at(threshold) == pytest.approx(best)
        else:
            assert at(-np.inf) == pytest.approx(best)


def test_thresholds_are_left_out_without_null_odds() -> None:
    assert not any(key.startswith("best") for key in squad_scores({"a": ""}, {"a": []}, by_answerable=True))
