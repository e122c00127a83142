"""Each step of a run as a record: what it does, which models it is given and which one it makes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ..stages.methods import METHODS
from .graph import Node
from .recipe_keys import OWNERS
from .run_folder import STUDENT_INIT, TEACHER_INIT, RunFolder


class Kind(Enum):
    """What a step does."""

    TEACHER_INIT = TEACHER_INIT
    """makes a teacher of random weights"""
    STUDENT_INIT = STUDENT_INIT
    """makes a student of blocks of a model"""
    FINETUNE = "finetune"
    LEARN_FILTERS = "learn_filters"
    DISTILL = "distill"
    SCORE = "score"
    """scores a model that is taken as it is"""
    SCORE_ON = "score_on"
    """scores a finished model on further data"""


STAGES = (Kind.FINETUNE, Kind.LEARN_FILTERS, Kind.DISTILL)
"""Steps that are stages, with settings in a folder of their own."""


@dataclass(frozen=True)
class Step:
    """A stage, a model that is made, or the scores of a model."""

    name: str
    kind: Kind
    of: str
    """`teacher`, `student` or the method whose model is made or scored."""
    inputs: tuple[str, ...] = ()
    """Folders or Hub ids of the models that it is given: one, or teacher and student."""
    makes: str | None = None
    """Folder of the model that it makes; None for scores."""
    shared: bool = True
    """Whether it is the same for all runs that share a folder: everything but the methods and their scores."""
    data: str = ""
    """The data set of `score_on` on which it scores; empty for the task's own."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs that have to be there: not the teacher of a method that matches nothing of it."""
        taught = self.kind is not Kind.DISTILL or METHODS[self.of].needs_teacher
        return self.inputs if taught else self.inputs[1:]

    @property
    def by_role(self) -> dict[str, str]:
        """The models that a stage reads, by what its identity calls them: `teacher`, `student` or `model`."""
        roles = OWNERS if self.kind is Kind.DISTILL else ("model",)
        return dict(zip(roles[-len(self.reads) :], self.reads, strict=True))


def all_steps(at: RunFolder, further: Iterable[str]) -> Iterator[Step]:
    """The steps of a run in the order in which one process makes them.

    Args:
        at: the run's folder, and its recipe.
        further: names of the data sets of `score_on`.
    """
    recipe = at.recipe
    if at.from_scratch:
        yield Step(TEACHER_INIT, Kind.TEACHER_INIT, "teacher", makes=str(at.shared / TEACHER_INIT))
    yield _tuning(at, "teacher")
    if at.makes_student:
        made = str(at.shared / STUDENT_INIT)
        yield Step(STUDENT_INIT, Kind.STUDENT_INIT, "student", (at.student_source,), made)
    yield _tuning(at, "student")
    for owner in recipe.filter_learners:
        yield Step(f"learn_filters_{owner}", Kind.LEARN_FILTERS, owner, (at.tuned[owner],), at.filtered[owner])
    for method in at.methods:
        learners = METHODS[method].learners(recipe.student_filters[method])
        inputs = tuple(
            at.filtered[owner] if owner in learners else known
            for owner, known in (("teacher", at.tuned["teacher"]), ("student", at.start))
        )
        yield Step(method, Kind.DISTILL, method, inputs, at.model(method), shared=False)
    further = list(further)
    for model in (*OWNERS, *at.methods):
        for data in further:
            name, shared = f"score_{model}_on_{data}", model in OWNERS
            yield Step(name, Kind.SCORE_ON, model, (at.model(model),), shared=shared, data=data)


def _tuning(at: RunFolder, owner: str) -> Step:
    """The step that gives the scores of a fine-tuned model: its fine-tuning, or scoring it as it is given."""
    given = (at.raw[owner],)
    if at.recipe.tunes(owner):
        return Step(f"finetune_{owner}", Kind.FINETUNE, owner, given, at.tuned[owner])
    return Step(f"score_{owner}", Kind.SCORE, owner, given)


def nodes_of(steps: Sequence[Step]) -> list[Node]:
    """The steps, each with those that make what it reads, in the same order."""
    makers = {step.makes: step.name for step in steps if step.makes is not None}
    # Everything reads the config and the tokenizer of a teacher from scratch.
    first = [step.name for step in steps if step.kind is Kind.TEACHER_INIT]
    nodes = []
    for step in steps:
        needs = [*first, *(makers[model] for model in step.reads if model in makers)]
        nodes.append(Node(step.name, tuple(need for need in dict.fromkeys(needs) if need != step.name)))
    return nodes
