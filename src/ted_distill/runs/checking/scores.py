"""What teacher and student know about the task before the run, on a few rows, and what chance would give there."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ...method.shapes import text_config
from ...models.load import LoadedModel
from ...stages.evaluate import predict_split, scoring_device
from ...tasks import Task
from ...tasks.base import TEST, Split
from ...training.stage_arguments import StageArguments

_SHUFFLES, _SLOW_SHUFFLES = 40, 20
"""How often predictions are shuffled: those of whole rows, and others, which take longer to score."""
_FEWEST = 16
"""Scores on fewer rows say nothing."""
_SURE = 3.0
"""Standard deviations beyond which a result is not taken for chance."""
_CLEAR = 2.0


@dataclass(frozen=True)
class SampleScores:
    """Scores on a sample, in percent where the task's are; by the task's main score."""

    metric: str
    lower_is_better: bool
    split: str
    rows: int
    uninformed: float | None
    """Of a predictor that says the same of every row, or that takes all tokens to be equally likely."""
    by_model: dict[str, float]
    """Of `teacher` and `student`, as they are now."""
    chance: tuple[float, float] | None
    """Mean and standard deviation of the teacher's predictions given to other rows; None if that is not possible."""
    swapped: str | None = None
    """What the teacher's classes are called in the data, if another order of them is clearly right."""

    @property
    def bar(self) -> float | None:
        """What a model that knows nothing of the task scores with some luck; None if that is unknown.

        Where predictions can be given to other rows, they say what they get by chance. The best constant answer is no
        measure then: a model that finds rare rows, and takes others for them, may be right less often than that.
        """
        if self.chance is None:
            return self.uninformed
        return self.chance[0] + self.sign * _CLEAR * self._luck

    @property
    def sign(self) -> int:
        """1 if more is better, else -1."""
        return -1 if self.lower_is_better else 1

    def knows(self, owner: str) -> bool | None:
        """Whether a model is better than the bar; None if nothing can be said."""
        bar = self.bar
        if bar is None or owner not in self.by_model or self.rows < _FEWEST:
            return None
        return self.sign * self.by_model[owner] > self.sign * bar

    @property
    def below_chance(self) -> bool:
        """Whether the teacher is clearly worse than chance, which takes knowledge too."""
        if self.chance is None or self.rows < _FEWEST:
            return False
        return self.sign * (self.by_model["teacher"] - self.chance[0]) < -_SURE * self._luck

    @property
    def _luck(self) -> float:
        """Standard deviation of what comes by chance; in percent half a point at least, as few shuffles show little."""
        deviation = self.chance[1] if self.chance else 0.0
        return deviation if self.lower_is_better else max(deviation, 0.5)

    @property
    def needs_another_score(self) -> bool:
        """Whether the teacher knows the task, yet scores less than one answer for all rows."""
        if self.uninformed is None or self.chance is None or not self.knows("teacher"):
            return False
        return self.sign * self.uninformed > self.sign * self.by_model["teacher"]


def score_sample(models: dict[str, LoadedModel], task: Task, args: StageArguments) -> SampleScores:
    """Score models on the rows of a sample: `teacher`, and `student` if it has weights that mean something.

    Args:
        args: batch size and precision, as those of a fine-tuning.
    """
    name = next(name for name in ("validation", TEST, "train") if name in task.rows)
    rows, by_model, found = task.rows[name], {}, {}
    for owner, loaded in models.items():
        split = Split(rows, task.encode(rows, loaded.tokenizer))
        found[owner] = _predicted(loaded, task, split, args)
        by_model[owner] = task.score(found[owner], rows)[task.metric]
    lower = task.metric in task.lower_is_better
    uninformed = task.uninformed_score(Split(rows, rows))
    if task.vocabulary_logits and task.metric == "perplexity":
        uninformed = float(text_config(models["teacher"].model.config).vocab_size)
    chance = _chance(found["teacher"], task, rows) if task.tells_apart(rows) else None
    return SampleScores(
        task.metric, lower, name, len(rows), uninformed, by_model, chance,
        swapped=_swapped(found["teacher"], task, rows),
    )  # fmt: skip


def _predicted(loaded: LoadedModel, task: Task, split: Split, args: StageArguments) -> Any:
    device, size = scoring_device(args.use_cpu), args.per_device_eval_batch_size
    return task.decode(predict_split(loaded, task, split, device, size, args.autocast_type), split)


# --- chance -----------------------------------------------------------------------------------------------------


def _chance(predictions: Any, task: Task, rows: Any) -> tuple[float, float] | None:
    """Mean and standard deviation of the score of predictions that were given to other rows."""
    random = np.random.default_rng(0)
    scores = []
    for _ in range(_SHUFFLES if isinstance(predictions, np.ndarray) else _SLOW_SHUFFLES):
        shuffled = _shuffled(predictions, random)
        if shuffled is None:
            return None
        scores.append(task.score(shuffled, rows)[task.metric])
    return float(np.mean(scores)), float(np.std(scores))


def _shuffled(predictions: Any, random: np.random.Generator) -> Any:
    """The predictions in another order; None for those that belong to their rows alone, such as words of a text."""
    if isinstance(predictions, np.ndarray):
        return random.permutation(predictions)
    if isinstance(predictions, list) and all(isinstance(row, list) for row in predictions):
        flat = [label for row in predictions for label in row]
        mixed = iter([flat[place] for place in random.permutation(len(flat))])
        return [[next(mixed) for _ in row] for row in predictions]
    answers = getattr(predictions, "answers", None)
    if isinstance(answers, dict):
        texts = list(answers.values())
        other = copy.copy(predictions)
        other.answers = {key: texts[place] for key, place in zip(answers, random.permutation(len(texts)), strict=True)}
        return other
    return None


# --- labels in another order ------------------------------------------------------------------------------------


def _swapped(predictions: Any, task: Task, rows: Any) -> str | None:
    """Which class the teacher means by each label, if another order than its own is clearly right."""
    names = task.label_names
    if names is None or not isinstance(predictions, np.ndarray) or predictions.ndim != 1:
        return None
    labels = np.asarray(rows["label"][:])
    confusion = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(confusion, (labels, predictions), 1)
    of_data, of_model = linear_sum_assignment(-confusion)
    right, best, total = int(confusion.trace()), int(confusion[of_data, of_model].sum()), len(labels)
    # The best of many orders is better than one by chance: it has to know more than the most frequent class, too.
    most = int(np.bincount(labels).max())
    spread = _SURE * float(np.sqrt(total) / 2)
    if total < _FEWEST or best - right < spread or best - most < spread / _SURE * _CLEAR:
        return None
    moved = [
        f"{names[model]} where the data say {names[data]}"
        for data, model in zip(of_data, of_model, strict=True)
        if data != model and confusion[data, model]
    ]
    return f"it says {', '.join(moved[:5])} ({best} of {total} rows would be right so, {right} are)"


# --- what follows -----------------------------------------------------------------------------------------------


def described(scores: SampleScores, tuned: bool, fresh: bool = False) -> str:
    """One line for people.

    Args:
        tuned: whether the run fine-tunes the teacher first.
        fresh: whether weights of the teacher are random, such as those of a new head.
    """
    now = " as it is now" if tuned else ""
    parts = [f"teacher{now} {scores.by_model['teacher']:.2f}"]
    if "student" in scores.by_model:
        parts.append(f"student as it starts {scores.by_model['student']:.2f}")
    if scores.uninformed is not None:
        parts.append(f"an answer that needs no input {scores.uninformed:.2f}")
    if scores.chance is not None:
        parts.append(f"chance {scores.chance[0]:.2f}")
    text = f"{scores.metric} on {scores.rows} {scores.split} rows: {', '.join(parts)}"
    if tuned and scores.knows("teacher") and not fresh:
        text += "; it knows something of the task already: finetune_teacher: false would take it as it is"
    elif tuned:
        text += "; the teacher is fine-tuned first"
    return text


def score_doubts(scores: SampleScores, teacher: str, tuned: bool) -> Iterator[str]:
    """What a teacher's scores say against it. Nothing is said of one that will be fine-tuned.

    Args:
        teacher: its name.
    """
    if tuned:
        return
    got, on = f"{scores.by_model['teacher']:.2f}", f"on {scores.rows} {scores.split} rows"
    if scores.swapped:
        yield (
            f"teacher: expected the data's labels from {teacher}, got them in another order: {scores.swapped}; name "
            "the labels in the model's config (id2label) and in the data by the same words, or take finetune_teacher: "
            "false out of the recipe, so that it is trained on the data's"
        )
    elif scores.below_chance and scores.chance is not None:
        yield (
            f"teacher: expected at least chance ({scores.chance[0]:.2f}) from {teacher}, got {scores.metric} {got} "
            f"{on}; compare the labels of the model with those of the data"
        )
    elif scores.knows("teacher") is False:
        by_luck = f"clearly better than chance ({scores.chance[0]:.2f})" if scores.chance else ""
        least = by_luck or f"better than {scores.bar:.2f}, which needs no input"
        yield (
            f"teacher: expected a model fine-tuned on this task, got {teacher}, whose {scores.metric} of {got} {on} is "
            f"not {least}: it was never fine-tuned on it, or on other labels; "
            "take finetune_teacher: false out of the recipe, or give another checkpoint"
        )
    elif scores.needs_another_score and scores.chance is not None:
        yield (
            f"teacher: expected more than one answer for all rows has ({scores.uninformed:.2f}), got {scores.metric} "
            f"{got} {on}: it knows something of the task ({scores.chance[0]:.2f} by chance), which this score does not "
            "show where most rows are alike; name one that does as metric_for_best_model"
        )
    student = scores.by_model.get("student")
    if student is not None and scores.knows("student") and scores.sign * (student - scores.by_model["teacher"]) > 0:
        yield (
            f"student: expected less than the teacher at the start, got {scores.metric} {student:.2f} {on} where the "
            f"teacher has {got}; there may be nothing to learn from it: give a better teacher"
        )
