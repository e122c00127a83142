"""What a run or comparison was, and what came of it, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..runs.table import BEST
from ..stages.methods import METHODS
from ..wording import and_list, counted, parameters
from . import words
from .folders import Reported
from .standings import Standing, best_student, plain_student


def sentence(reported: Reported, found: Sequence[Standing], costs: Mapping[str, Any], rows: int | None) -> str:
    """What was done: models, methods, data, seeds."""
    models = costs.get("models", {})
    best = best_student(found, reported.lower_is_better)
    teacher, student = models.get("teacher"), models.get(best.name) if best else None
    comparison = reported.comparison
    what = "A run" if comparison is None else f"A comparison over {counted(len(comparison.seeds), 'seed')}"
    task = reported.task.name if reported.task else _task_name(reported)
    name = split_name(reported)
    where = f"the {rows:,} {name.removeprefix('the ')}" if rows else name
    who = f"a teacher{_size(teacher)} and students{_size(student)}"
    how = _trained(found)
    return f"{what} on {task}: {who}{how}. Scores are {reported.metric} on {where}{_direction(reported)}."


def _trained(found: Sequence[Standing]) -> str:
    """`, trained on the labels alone and by KD and TED`."""
    methods = [one for one in found if one.role == "method"]
    taught = [one.title for one in methods if METHODS[one.name].needs_teacher]
    ways = ["on the labels alone"] if len(taught) < len(methods) else []
    ways += [f"by {and_list(taught)}"] if taught else []
    return f", trained {and_list(ways)}" if ways else ""


def split_name(reported: Reported) -> str:
    """`the validation rows` or `the test rows`."""
    split = reported.comparison.split if reported.comparison else _split(reported)
    return f"the {split} rows"


def _split(reported: Reported) -> str:
    result = next(iter(reported.results.values()), {})
    return "test" if "test" in result.get("scored_on", {}) else "validation"


def _task_name(reported: Reported) -> str:
    return reported.at.recipe.task.task or "its task" if reported.at else "its task"


def _direction(reported: Reported) -> str:
    return "; lower is better" if reported.lower_is_better else ""


def _size(model: Mapping[str, Any] | None) -> str:
    if not model:
        return ""
    blocks = f"{counted(model['blocks'], 'block')} and " if model.get("blocks") else ""
    return f" of {blocks}{parameters(model['parameters'])} parameters"


def verdicts(reported: Reported, found: Sequence[Standing], costs: Mapping[str, Any]) -> list[str]:
    """What came of it: of a comparison, what its statistics say; of a run, what one seed can say."""
    if reported.comparison is not None:
        pairs = reported.comparison.verdicts or [_pair(pair, found) for pair in reported.comparison.comparisons]
        said = [*_best_mean(reported, found), *pairs]
    else:
        said = _of_run(reported, found)
    said += _teacher_behind(found, reported.lower_is_better)
    best = best_student(found, reported.lower_is_better)
    trimmed = [one for one in found if one.role == "trimmed"]
    costly = trimmed or ([best] if best else [])
    said += [
        f"In {BEST} is {one.title}: its tokens are those of the training texts, and it scores {_scored(one)}."
        for one in trimmed
    ]
    return [*said, *(line for one in costly for line in _cost(one, costs))]


def _teacher_behind(found: Sequence[Standing], lower_is_better: bool) -> list[str]:
    """A doubt about a teacher that scores less than a student without one, by more than other rows would explain."""
    teacher = next((one for one in found if one.role == "teacher"), None)
    alone = next((one for one in found if one.name == plain_student(found)), None)
    if teacher is None or alone is None or teacher.interval is None:
        return []
    low, high = teacher.interval
    if low <= alone.score <= high or (alone.score < low) is not lower_is_better:
        return []
    return [
        f"{words.capital(_named(alone))} scores better than the teacher ({_scored(alone)} and {_scored(teacher)}): the "
        "teacher is probably not trained enough, and holds back all that learn from it. Train it longer before you "
        "choose a method."
    ]


def _best_mean(reported: Reported, found: Sequence[Standing]) -> list[str]:
    methods = [one for one in found if one.role == "method"]
    best = best_student(methods, reported.lower_is_better)
    if best is None:
        return []
    equal = _equals(best, methods)
    away = _against_teacher(best, found, reported.lower_is_better)
    return [f"{words.capital(_named(best))} has the best mean of what was compared: {_scored(best)}{away}.", *equal]


def _equals(best: Standing, found: Sequence[Standing]) -> list[str]:
    """A sentence on those with the same score."""
    equal = [_named(one) for one in found if one is not best and one.score == best.score]
    if not equal:
        return []
    return [f"{words.capital(and_list(equal))} {'has' if len(equal) == 1 else 'have'} the same score."]


def _of_run(reported: Reported, found: Sequence[Standing]) -> list[str]:
    best = best_student(found, reported.lower_is_better)
    if best is None:
        return ["No student was trained in this run."]
    others = [one for one in found if one.role in ("method", "student") and one is not best]
    chosen = "is the best student by its validation score; on these rows it has"
    leads = (
        chosen
        if best.chosen_elsewhere
        else "has the best score of the students trained here"
        if others
        else "is the one student trained here"
    )
    sign = -1 if reported.lower_is_better else 1
    better = sorted((one for one in others if sign * (one.score - best.score) > 0), key=lambda one: -sign * one.score)
    if better and not best.chosen_elsewhere:
        by = reported.results[best.name].get("chosen_by") or "another score"
        leads = f"is the best student by {by}, and has"
    away = _against_teacher(best, found, reported.lower_is_better)
    said = [f"{words.capital(_named(best))} {leads}: {_scored(best)}{away}."]
    plain = plain_student(found)
    equal = [_named(one) for one in others if one.score == best.score]
    if equal and not better and not best.chosen_elsewhere:
        all_of_them = words.capital(and_list([_named(best), *equal]))
        said = [f"{all_of_them} have the best score of the students trained here: {_scored(best)}{away}."]
    else:
        said += _equals(best, others)
    if better:
        said.append(f"On these rows {and_list([f'{_named(one)} has {_scored(one)}' for one in better])}.")
    elif others and plain in (best.name, *(one.name for one in others if one.score == best.score)):
        said.append(
            "No method scores better than the student trained on the labels alone: here a teacher shows no gain."
        )
    elif best.gap_closed is not None and best.gap_closed > 0:
        title = next(_named(one) for one in found if one.name == plain)
        said.append(f"That is {words.percent(best.gap_closed)} of the way from {title} to the teacher.")
    if others:
        said.append(
            "One seed says little about the order of methods whose scores are near each other: ted compare repeats "
            "the run with several seeds, and says which of them can be told apart."
        )
    return said


def _named(one: Standing) -> str:
    titles = {"student alone": "the student trained on the labels alone", "student, fine-tuned": "the plain student"}
    return titles.get(one.title, one.title)


def _scored(one: Standing) -> str:
    within = words.interval(one.interval)
    return words.score(one.score) + (f" ({within})" if within else "")


def _against_teacher(best: Standing, found: Sequence[Standing], lower_is_better: bool) -> str:
    teacher = next((one for one in found if one.role == "teacher"), None)
    if teacher is None:
        return ""
    away = best.score - teacher.score
    if round(abs(away), 2) == 0:
        return f", the teacher's score ({words.score(teacher.score)})"
    better = (away > 0) != lower_is_better
    return f", {abs(away):.2f} {'better than' if better else 'short of'} the teacher's {words.score(teacher.score)}"


def _pair(pair: Mapping[str, Any], found: Sequence[Standing]) -> str:
    titles = {one.name: one.title for one in found}
    better, worse = (titles.get(str(pair.get(key)), str(pair.get(key))) for key in ("better", "worse"))
    if not pair.get("told_apart"):
        return f"{better} and {worse} cannot be told apart."
    return f"{better} is better than {worse}, by {float(pair.get('difference', 0)):.2f}."


def _cost(best: Standing, costs: Mapping[str, Any]) -> list[str]:
    models = costs.get("models", {})
    if best.name not in models or "teacher" not in models:
        return []
    own, teacher = models[best.name], models["teacher"]
    share = words.percent(own["parameters"] / teacher["parameters"])
    said = f"{words.capital(_named(best))} has {share} of the teacher's parameters"
    if own.get("rows_per_second") and teacher.get("rows_per_second"):
        faster = own["rows_per_second"] / teacher["rows_per_second"]
        said += f" and is {faster:.1f} times as fast ({_device(costs)})"
    return [f"{said}."]


def _device(costs: Mapping[str, Any]) -> str:
    speed = costs.get("speed") or {}
    return f"measured on a {'GPU' if speed.get('device') == 'cuda' else 'CPU'}"
