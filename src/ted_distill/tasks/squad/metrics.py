"""Exact match and token F1 of answers to questions, and their aggregates, as SQuAD defines them.

The definitions are those of the official scripts (v1.1 and v2.0), so that scores equal published ones to the last
digit: answers are compared without case, punctuation, articles and extra white space; the best of several gold answers
counts; a question without gold answers has the one gold answer "".
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


def normalise_answer(text: str) -> str:
    """The text in lower case, without ASCII punctuation and English articles, one space between words."""
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def exact_match(answer: str, gold: str) -> float:
    """1 if both answers are the same after `normalise_answer`, else 0."""
    return float(normalise_answer(answer) == normalise_answer(gold))


def token_f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the words (a multiset) of the two normalised answers.

    Where either has no words, F1 is 1 if neither has, else 0.
    """
    answer_words, gold_words = normalise_answer(answer).split(), normalise_answer(gold).split()
    if not answer_words or not gold_words:
        return float(answer_words == gold_words)
    common = sum((Counter(answer_words) & Counter(gold_words)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(answer_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def squad_scores(
    answers: Mapping[str, str],
    gold_answers: Mapping[str, Sequence[str]],
    null_odds: Mapping[str, float] | None = None,
    by_answerable: bool = False,
) -> dict[str, float]:
    """Scores of a data set, in percent.

    Args:
        answers: question id -> answer, "" for no answer; has every id of `gold_answers`, others are ignored.
        gold_answers: question id -> gold answers, an empty list for no answer; not empty.
        null_odds: question id -> score of no answer minus score of the best answer. If given, the result also has
            `best_exact`, `best_f1` and the thresholds that reach them (see `best_threshold`).
        by_answerable: also score answerable (`HasAns_`) and unanswerable (`NoAns_`) questions separately, if any.

    Returns:
        `exact_match`, `f1`, `total`, and the keys above. Totals are counts; thresholds have the unit of `null_odds`.
    """
    ids = list(gold_answers)
    has_answer = np.array([bool(gold_answers[id_]) for id_ in ids])
    of_question = question_scores(answers, gold_answers)
    exact, f1 = of_question["exact_match"], of_question["f1"]

    scores = {"exact_match": _percent(exact), "f1": _percent(f1), "total": float(len(ids))}
    if by_answerable:
        for name, chosen in (("HasAns", has_answer), ("NoAns", ~has_answer)):
            if chosen.any():
                scores[f"{name}_exact"] = _percent(exact[chosen])
                scores[f"{name}_f1"] = _percent(f1[chosen])
                scores[f"{name}_total"] = float(chosen.sum())
    if null_odds:
        row = {id_: number for number, id_ in enumerate(ids)}
        answered = np.array([bool(answers[id_]) for id_ in ids])
        rows = np.array([row[id_] for id_ in null_odds if id_ in row], dtype=np.int64)
        odds = np.array([value for id_, value in null_odds.items() if id_ in row], dtype=np.float64)
        for name, values in (("exact", exact), ("f1", f1)):
            best, threshold = best_threshold(values, has_answer, answered, rows, odds)
            scores[f"best_{name}"], scores[f"best_{name}_thresh"] = best, threshold
    return scores


def question_scores(answers: Mapping[str, str], gold_answers: Mapping[str, Sequence[str]]) -> dict[str, np.ndarray]:
    """(N,) `exact_match` and `f1` of each question, 0..1, in the order of `gold_answers`."""
    found = [_best_of_gold(answers[id_], gold) for id_, gold in gold_answers.items()]
    exact, f1 = np.array(found, dtype=np.float64).T
    return {"exact_match": exact, "f1": f1}


def best_threshold(
    values: np.ndarray, has_answer: np.ndarray, answered: np.ndarray, rows: np.ndarray, odds: np.ndarray
) -> tuple[float, float]:
    """The highest score, in percent, that a threshold on the null odds can give, and that threshold.

    Starts with no answers, then adds the questions' answers in the order of their null odds. As in the official
    script, a question that was already given no answer stays so at every threshold.

    Args:
        values: (N,) score of each question, 0..1.
        has_answer, answered: (N,) whether its gold answer, or its predicted answer, is not empty.
        rows, odds: (M,) indices of the questions with null odds into the arrays above, and the odds.
    """
    order = np.argsort(odds, kind="stable")
    rows, odds = rows[order], odds[order]
    gains = np.where(has_answer[rows], values[rows], -answered[rows].astype(np.float64))
    totals = np.cumsum(np.concatenate([[np.count_nonzero(~has_answer)], gains]))
    best = int(np.argmax(totals))  # the first of equals: the lowest threshold
    return 100.0 * float(totals[best]) / len(values), float(odds[best - 1]) if best else 0.0


def _best_of_gold(answer: str, gold_answers: Sequence[str]) -> tuple[float, float]:
    # A gold answer such as "the" is empty after normalising: it must not make an empty answer right.
    gold = [text for text in gold_answers if normalise_answer(text)] or [""]
    return max(exact_match(answer, text) for text in gold), max(token_f1(answer, text) for text in gold)


def _percent(values: np.ndarray) -> float:
    return 100.0 * float(values.sum()) / len(values)
