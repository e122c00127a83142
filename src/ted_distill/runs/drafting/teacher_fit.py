"""Whether a teacher can be taken as it is, or has to be fine-tuned on the task first, and why."""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedModel

from ...errors import InputError
from ...models.labels import (
    check_problem_type,
    class_names,
    has_default_labels,
    has_labels,
    label_order,
    model_labels,
)
from ...tasks import Task
from ...wording import listed
from .teacher_facts import ANSWERS, CAUSAL, MASKED, SEQUENCE, TOKENS, TeacherFacts

_WANTED = {
    "AutoModelForSequenceClassification": SEQUENCE, "AutoModelForTokenClassification": TOKENS,
    "AutoModelForQuestionAnswering": ANSWERS, "AutoModelForCausalLM": CAUSAL, "AutoModelForMaskedLM": MASKED,
}  # fmt: skip


class Fit(NamedTuple):
    """Whether a teacher needs fine-tuning, and the reason."""

    tuned: bool
    why: str


def teacher_fit(teacher: TeacherFacts, model: PreTrainedModel, task: Task) -> Fit:
    """Whether the teacher has a trained head for this task and these labels.

    Args:
        model: the teacher with the task's head, perhaps without weights.
    """
    # Of a task of one's own, the head may be any of transformers'.
    if teacher.head is None or teacher.head != _WANTED.get(task.auto_model.__name__):
        return Fit(False, f"it has no head for this task ({teacher.architecture})")
    if has_labels(task) and (problem := _labels_problem(teacher, task)):
        return Fit(False, problem)
    trained = teacher.is_trained(model)
    if trained is False:
        return Fit(False, f"its head was never trained ({teacher.architecture}, all biases are those of a new head)")
    unknown = "; its weights do not tell, ted check will" if trained is None else ""
    if not has_labels(task):
        return Fit(True, f"it has a trained head for this task already ({teacher.architecture}){unknown}")
    names = class_names(task)
    what = f"for the labels {listed(names, 6)}" if names else "for scores"
    return Fit(True, f"it has a trained head {what} already ({teacher.architecture}){unknown}")


def _labels_problem(teacher: TeacherFacts, task: Task) -> str | None:
    """Why the teacher's labels are not those of the data; None if they are."""
    config, names = teacher.config, class_names(task)
    if names is not None and has_default_labels(config) and len(names) == config.num_labels:
        if names == [str(number) for number in range(len(names))]:
            return None
        return f"its {config.num_labels} labels have no names, so that they cannot be told to be {listed(names, 6)}"
    try:
        check_problem_type(config, task, teacher.name)
        label_order(config, task, teacher.name)
    except InputError:
        wanted = listed(names, 6) if names else f"{task.num_labels} score"
        known = model_labels(config)
        lacking = [name for name in names or [] if name not in known]
        if known and 0 < len(lacking) < len(names or []):
            return f"it lacks the label{'s' * (len(lacking) > 1)} {listed(lacking, 6)} of the data"
        return f"its labels are {listed(model_labels(config), 6)}, those of the data {wanted}"
    return None
