"""The methods of Stage II, as data: what of the teacher each one matches.

No other code knows one by its name, except for defaults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LEARNED, LEAST_SQUARES, RANDOM, IDENTITY = "learned", "least_squares", "random", "identity"
"""Where filters come from: Stage I; ridge regression to the teacher's filtered states; chance; or no filter at all."""
UNLEARNT = (LEAST_SQUARES, RANDOM)
"""What the student's filters may start from without a Stage I of its own."""


@dataclass(frozen=True)
class Method:
    """What a student is trained to match, besides the labels.

    A new method that matches predictions, hidden states through filters, or attention relations is a line in `METHODS`.
    """

    title: str
    """In tables."""
    text: str
    """How the student was made, for its model card."""
    matches_predictions: bool = True
    teacher_filters: str | None = None
    """`learned` or `identity`; None if no hidden states are matched."""
    student_filters: str | None = None
    """Where the student's start if nothing else is asked for."""
    matches_relations: bool = False
    """Whether attention relations of one pair of blocks are matched."""

    @property
    def matches_states(self) -> bool:
        """Whether filtered hidden states are matched."""
        return self.teacher_filters is not None

    @property
    def matches_tokens(self) -> bool:
        """Whether something of each token is matched, so that both models must read the same ones."""
        return self.matches_states or self.matches_relations

    @property
    def needs_teacher(self) -> bool:
        """Whether anything of the teacher is matched."""
        return self.matches_predictions or self.matches_tokens

    def learners(self, student_filters: str | None) -> list[str]:
        """The models, `teacher` and `student`, whose filters this method takes from Stage I.

        Args:
            student_filters: where the student's start [the method's own].
        """
        if self.teacher_filters != LEARNED:
            return []
        return ["teacher", "student"] if (student_filters or self.student_filters) == LEARNED else ["teacher"]

    @property
    def unused(self) -> dict[str, str]:
        """Arguments of Stage II that mean nothing to this method, and why."""
        groups = (
            (self.matches_predictions, "has no teacher", "kl_alpha temperature"),
            (
                self.matches_states,
                "matches no hidden states",
                "mse_alpha layer_loss pairs pair_weights filter_interval teacher_filter_interval",
            ),
            (self.matches_relations, "matches no attention relations", "attention_alpha attention_pair relation_heads"),
            (self.matches_tokens, "matches nothing of the blocks", "layer_schedule"),
            (
                self.student_filters not in (None, IDENTITY),
                "has no filters of the student's",
                "student_filters train_filters",
            ),
            (self.teacher_filters == LEARNED, "has no learnt filters of the teacher's", "teacher_filters"),
        )
        return {name: why for used, why, names in groups if not used for name in names.split()}


_TED = "task-aware layer-wise distillation (TED): it matches the teacher's predictions and, through filters learnt for "
MethodName = Literal["alone", "kd", "hidden", "attention", "lwd", "ted", "ted_attention"]
"""For editors; what counts is `METHODS`."""
METHODS: dict[str, Method] = {
    "alone": Method(
        "student alone", "Trained on {task} on the labels alone, without a teacher.", matches_predictions=False
    ),
    "kd": Method("KD", "Distilled on {task} by knowledge distillation: it matches the teacher's predictions."),
    "hidden": Method(
        "hidden states",
        "Distilled on {task} by matching the teacher's predictions and its hidden states as they are.",
        teacher_filters=IDENTITY,
        student_filters=IDENTITY,
    ),
    "attention": Method(
        "attention relations",
        "Distilled on {task} by matching the teacher's predictions and, in one block, how its queries, keys and values "
        "relate to each other.",
        matches_relations=True,
    ),
    "lwd": Method(
        "LWD",
        "Distilled on {task} layer by layer: it matches the teacher's predictions and, through trainable filters, its "
        "hidden states.",
        teacher_filters=IDENTITY,
        student_filters=RANDOM,
    ),
    "ted": Method(
        "TED",
        f"Distilled on {{task}} by {_TED}the task, its hidden states.",
        teacher_filters=LEARNED,
        student_filters=LEAST_SQUARES,
    ),
    "ted_attention": Method(
        "TED + attention relations",
        f"Distilled on {{task}} by {_TED}the task, its hidden states; in one block also how its queries, keys and "
        "values relate to each other.",
        teacher_filters=LEARNED,
        student_filters=LEAST_SQUARES,
        matches_relations=True,
    ),
}


def token_methods(methods: Sequence[str]) -> list[str]:
    """Those of the methods that match something of each token: blocks must be paired, and tokens be the same."""
    return [method for method in methods if METHODS[method].matches_tokens]


def filter_learners(methods: Sequence[str], student_filters: dict[str, str | None]) -> list[str]:
    """The models, `teacher` and `student`, for which these methods need Stage I.

    Args:
        student_filters: where the student's filters start, by method.
    """
    needed = {owner for name in methods for owner in METHODS[name].learners(student_filters.get(name))}
    return [owner for owner in ("teacher", "student") if owner in needed]
