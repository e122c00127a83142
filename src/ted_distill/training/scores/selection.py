"""Which weights are a stage's result: chosen on which rows, by which score, and out of how many evaluations.

The best of many evaluations on the same rows is a score that is too good. So results say out of how many it is the
best, hold the last one besides it and, where there are test rows, scores on those, which had no part in the choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import TrainerState

from ...tasks.base import TEST, Metrics, Task
from ...wording import and_list, counted

LAST = "last_"
"""Prefix of the scores of the last evaluation."""

FILTER_HEADS = "mean over filter heads"
"""What Stage I's scores are: they must not be taken for those of the model."""
SCORES_OF = "scores_of"
"""Key of results: whose scores they are, if not the model's."""

_CANDIDATE = "candidate"
_FACTS = {"evaluations", "best_step", "learning_rate"}
_COSTS = {"seconds", "search_seconds", "parameters", "steps", "train_features"}


def mark_candidate(state: TrainerState) -> None:
    """Note in the log that the weights of the evaluation just made are saved, so that they may be chosen."""
    state.log_history[-1][_CANDIDATE] = True


def is_candidate(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of the log is an evaluation of weights that are saved."""
    return _CANDIDATE in entry


def logged_scores(state: TrainerState, step: int | None = None) -> Metrics:
    """Scores that were logged at a step [at the last evaluation]; none if there was no evaluation."""
    for entry in reversed(state.log_history):
        scores = _scores(entry)
        if scores and step in (None, entry["step"]):
            return scores
    return {}


def selection(state: TrainerState, task: Task, chosen_by: str | None, tested: bool) -> dict[str, Any]:
    """What `all_results.json` says about the choice.

    Args:
        chosen_by: the score that decided; None if the result is the last weights.
        tested: whether the result was scored on the test rows.

    Returns:
        `scored_on`: rows and source of each split; `chosen_on`, `chosen_by`: the split and the score that decided, or
        None; `evaluations`: out of how many; `best_step`; and the last evaluation's scores.
    """
    counted = [entry for entry in state.log_history if _scores(entry) and (is_candidate(entry) or not chosen_by)]
    return {
        "scored_on": {split: of for split, of in scored_on(task).items() if tested or split != TEST},
        "chosen_on": split_of(chosen_by, task) if chosen_by else None,
        "chosen_by": chosen_by,
        "evaluations": len(counted),
        "best_step": state.best_global_step if chosen_by else None,
        **{f"{LAST}{name}": value for name, value in logged_scores(state).items()},
    }


def scored_on(task: Task) -> dict[str, dict[str, Any]]:
    """Rows and source of every split that a task is scored on; of test rows also the content, as a fingerprint."""
    counts = task.row_counts
    found = {split: {"rows": counts[split], "from": name} for split, name in task.sources.items() if split != "train"}
    if TEST in found:
        found[TEST]["content"] = str(task.test_identity)
    return found


def split_of(score: str, task: Task) -> str:
    """The split that a score is of: `mismatched_accuracy` is of `validation_mismatched`."""
    others = [split for split in task.row_counts if split not in ("train", "validation", TEST)]
    prefixes = {split: split.removeprefix("validation_") + "_" for split in others}
    return next((split for split, prefix in prefixes.items() if score.startswith(prefix)), "validation")


def shown_scores(results: dict[str, Any]) -> Metrics:
    """The scores among the results of a stage, those on test rows first and without those of the last evaluation."""
    found = {
        name: value
        for name, value in results.items()
        if isinstance(value, (int, float)) and name not in _FACTS | _COSTS and not _is_last(name, results)
    }
    return dict(sorted(found.items(), key=lambda score: not is_test_score(score[0], results)))


def is_test_score(name: str, results: dict[str, Any]) -> bool:
    """Whether a score is on the run's own test rows, and not on further data whose name begins with `test`."""
    return TEST in results.get("scored_on", {}) and name.startswith(f"{TEST}_")


def test_contents(results: Iterable[dict[str, Any]]) -> set[str]:
    """Of the test rows that models were scored on, by what they recorded of these."""
    found = (one.get("scored_on", {}).get(TEST, {}).get("content") for one in results)
    return {content for content in found if content is not None}


def _is_last(name: str, results: dict[str, Any]) -> bool:
    return name.startswith(LAST) and name.removeprefix(LAST) in results


def outcome(results: dict[str, Any], teacher: Mapping[str, Any]) -> str:
    """`spearmanr 83.21, best of 3 evaluations (teacher 84.80)`: how a stage ended, in one line; nothing if not scored.

    Args:
        teacher: its scores, as far as they are known.
    """
    name = results.get("chosen_by") or results["metric"]
    if name not in results:
        return ""
    text = f"{score_title(name, results)} {results[name]:.2f}"
    if results.get("chosen_on"):
        text += f", best of {counted(results['evaluations'], 'evaluation')}"
    if name in teacher and SCORES_OF not in results:
        text += f" (teacher {teacher[name]:.2f})"
    return text


def score_title(name: str, results: dict[str, Any]) -> str:
    """A score as people should read it: in Stage I `accuracy (mean over filter heads)`."""
    of = results.get(SCORES_OF)
    if not of or name in _FACTS | _COSTS or not isinstance(results.get(name), float):
        return name
    metric, _, block = name.rpartition("_block_")
    return f"{metric} (filter head of block {block})" if metric and block.isdecimal() else f"{name} ({of})"


def described(results: dict[str, Any]) -> list[str]:
    """Sentences on the rows of the scores, and on the choice, for tables and cards; none where nothing is known."""
    splits, chosen_on = results.get("scored_on", {}), results.get("chosen_on")
    named = {name: _rows(name, split) for name, split in splits.items()}
    sentences = []
    if TEST in splits:
        sentences.append(f"Tested once, on {named[TEST]}.")
    validation = [text for name, text in named.items() if name != TEST]
    if chosen_on:
        by, last = f"`{results['chosen_by']}`{_of(results)}", results.get(f"{LAST}{results['chosen_by']}")
        if results["evaluations"] == 1 and last == results.get(results["chosen_by"]):
            sentences.append(f"Scored once, at the end of training, by {by} on {named[chosen_on]}.")
        else:
            sentences.append(
                f"Chosen by {by} on {named[chosen_on]}: best of {counted(results['evaluations'], 'evaluation')}"
                + (f"; the last one gave {last:.2f}." if last is not None else ".")
            )
    elif validation or "evaluations" in results:
        which = "The last weights, not chosen by a score" if "evaluations" in results else "Taken as it was"
        sentences.append(which + (f"; scored on {and_list(validation)}." if validation else "."))
    return sentences


def _of(results: dict[str, Any]) -> str:
    return f" ({results[SCORES_OF]})" if SCORES_OF in results else ""


def _rows(name: str, split: dict[str, Any]) -> str:
    return f"{name} ({counted(split['rows'], 'row')} of {split['from']})"


def _scores(entry: dict[str, Any]) -> Metrics:
    return {name.removeprefix("eval_"): value for name, value in entry.items() if name.startswith("eval_")}
