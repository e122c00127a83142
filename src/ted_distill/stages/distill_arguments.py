"""The arguments of Stage II: what the student matches, and the weight of each term."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar

from ..errors import collect, nearest, raise_if_any, shown
from ..method.layer_losses import LAYER_LOSSES, LayerLossName
from ..method.losses import LayerSchedule
from ..method.pairs import parse_pairs
from ..ranges import a_path, above, at_least, described, inside, one_of, range_problems, take_values
from ..tasks.augmentation import Augmentation
from .methods import LEARNED, METHODS, UNLEARNT, Method, MethodName

KL_ALPHA, MSE_ALPHA, ATTENTION_ALPHA = 1.0, 10.0, 10.0
"""Default weights of the terms, for all tasks and methods; docs/log.md has the trials."""
BALANCED = "balanced"


@described
@dataclass
class DistillArguments:
    """What the student matches, and the weight of each term."""

    _argument_group_name: ClassVar[str] = "distillation"

    method: Annotated[MethodName, one_of(METHODS)] = "ted"
    """ted (learnt filters), lwd, kd, alone, hidden, attention or ted_attention"""
    kl_alpha: Annotated[float | None, at_least(0)] = None
    """weight of matching the teacher's predictions [1; alone: 0]"""
    mse_alpha: Annotated[float | None, at_least(0)] = None
    """weight of the layer loss [10; without states: 0]"""
    attention_alpha: Annotated[float | None, at_least(0)] = None
    """weight of attention relations [10; without them: 0]"""
    temperature: Annotated[float, above(0)] = 2.0
    """softens both predictions in the KL"""
    filter_interval: Annotated[int | None, at_least(1)] = None
    """student: a filter after every N-th block [1; ted: as learnt]"""
    teacher_filter_interval: Annotated[int | None, at_least(1)] = None
    """the same for the teacher [as the numbers divide; ted: as learnt]"""
    teacher_filters: Annotated[str | None, a_path()] = None
    """folder of its filters [the teacher's]"""
    student_filters: Annotated[str | None, a_path()] = None
    """learned, least_squares, random or a folder [learned if found; else by method]"""
    train_filters: bool = True
    """train the student's filters with it; otherwise they stay as they start"""
    pairs: list[str] | None = None
    """teacher block:student block, as 4:1 8:2 12:3 [as the student was made]"""
    pair_weights: list[str] | None = None
    """weight of each pair's layer loss, or balanced: by the size of its gradient [1 each]"""
    layer_loss: Annotated[LayerLossName, one_of(LAYER_LOSSES)] = "normalized_mse"
    """normalized_mse (by the teacher's variance), mse or cosine"""
    layer_schedule: LayerSchedule = "constant"
    """weight of the layers over time: constant, layers_first or decay"""
    attention_pair: str | None = None
    """teacher block:student block of the attention relations [the last pair]"""
    relation_heads: Annotated[int | None, at_least(1)] = None
    """parts that queries, keys and values are cut into [the teacher's heads]"""
    unlabelled_share: Annotated[float | None, inside(0, 1)] = None
    """share of rows without labels in an epoch, drawn by the seed [all there are]"""
    augment: list[Augmentation] | None = None
    """also train on noisy copies that the teacher labels: mask, replace, swap [none]"""
    student_dropout: bool = False
    """dropout in the student, as its config says"""
    train_embeddings: bool | None = None
    """train the student's word embeddings [not while they are its teacher's]"""
    new_head: bool = False
    """the student is not fine-tuned yet: give it a new head"""

    def __post_init__(self) -> None:
        """Raises `InputError`: see `check`."""
        take_values(self)
        self.check()

    @property
    def of_method(self) -> Method:
        """What the method matches."""
        return METHODS[self.method]

    def check(self) -> None:
        """Refuse values outside their ranges, and arguments that contradict each other.

        Raises:
            InputError: with all problems.
        """
        problems = range_problems(type(self), vars(self))
        for pairs in (self.pairs, [self.attention_pair] if self.attention_pair else None):
            with collect(problems):
                parse_pairs(pairs or [])
        if self.pairs and not (self.filter_interval is None is self.teacher_filter_interval):
            problems.append("pairs: given with filter_interval or teacher_filter_interval; give one or the other")
        if self.method in METHODS:
            problems += self._unused()
        if problem := self._missing_filters():
            problems.append(problem)
        with collect(problems):
            self.weights_of_pairs(len(self.pairs or []) or None)
        raise_if_any(problems)

    def _missing_filters(self) -> str:
        """What is wrong with `student_filters`, which is known before anything is trained; empty if nothing is."""
        start, words = self.student_filters, (LEARNED, *UNLEARNT)
        if start is None or self.method not in METHODS or "student_filters" in self.of_method.unused:
            return ""
        if self.of_method.teacher_filters != LEARNED and start not in UNLEARNT:
            return (
                f"student_filters: expected {' or '.join(UNLEARNT)} with method {self.method}, got {start}; choose "
                "one of them or method ted"
            )
        if start in words or Path(start).is_dir():
            return ""
        return (
            f"student_filters: expected {', '.join(words)} or a folder of learnt filters, got {shown(start)}"
            f"{nearest(start, words)}"
        )

    def _unused(self) -> Iterator[str]:
        """What is given although the method has no use for it."""
        defaults = {given.name: given.default for given in fields(self)}
        for name, why in self.of_method.unused.items():
            value = getattr(self, name)
            if value == defaults[name] or (not value and value is not False):
                continue
            users = " or ".join(known for known, method in METHODS.items() if name not in method.unused)
            expected = "0" if name.endswith("_alpha") else "true" if value is False else "none"
            yield (
                f"{name}: expected {expected}, as method {self.method} {why}, got {_words(value)}; leave it out or "
                f"choose method {users}"
            )

    # --- resolved -------------------------------------------------------------------------------------------------

    @property
    def prediction_weight(self) -> float:
        """`kl_alpha`, or its default."""
        return _weight(self.kl_alpha, KL_ALPHA, self.of_method.matches_predictions)

    def layer_weight(self, pairs: Sequence[tuple[int, int]]) -> float:
        """`mse_alpha`, or its default."""
        return _weight(self.mse_alpha, MSE_ALPHA, bool(pairs))

    @property
    def relation_weight(self) -> float:
        """`attention_alpha`, or its default."""
        return _weight(self.attention_alpha, ATTENTION_ALPHA, self.of_method.matches_relations)

    @property
    def balances_pairs(self) -> bool:
        """Whether pairs are weighed by the size of their gradients."""
        return self.pair_weights == [BALANCED]

    def weights_of_pairs(self, pairs: int | None) -> list[float] | None:
        """The weight of each pair as it is given; None where none is given, or where they are to be balanced.

        Args:
            pairs: their number; None if it is not known yet.

        Raises:
            InputError: not one number of at least 0 for each pair, or all of them 0.
        """
        if self.pair_weights is None or self.balances_pairs:
            return None
        problems: list[str] = []
        texts = [*map(str, self.pair_weights)]  # numbers, in Python
        given = " ".join(texts)
        weights: list[float] = []
        with collect(problems):
            weights = parse_weights(texts)
        if not problems and pairs is not None and len(weights) != pairs:
            problems.append(
                f"pair_weights: expected one for each of {pairs} pairs, got {len(weights)} ({given}); give {pairs}"
            )
        raise_if_any(problems)
        return weights


def parse_weights(texts: Sequence[str]) -> list[float]:
    """Numbers of at least 0, not all of them 0.

    Raises:
        InputError: anything else.
    """
    wrong = f"pair_weights: expected numbers of at least 0, one of them above 0, or {BALANCED}, got {' '.join(texts)}"
    try:
        weights = [float(text) for text in texts]
    except ValueError:
        weights = []
    raise_if_any([] if weights and min(weights) >= 0 and 0 < sum(weights) < float("inf") else [f"{wrong}; fix them"])
    return weights


def _weight(given: float | None, default: float, used: bool) -> float:
    return (default if used else 0.0) if given is None else given


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
