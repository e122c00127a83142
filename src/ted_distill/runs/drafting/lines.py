"""The keys of a drafted recipe, each with its value and the reason for it."""

from __future__ import annotations

from collections.abc import Iterator

from ...method.shapes import num_blocks, width
from ...models.load import ModelArguments
from ...tasks import Task, TaskArguments
from ...tasks.sequence_classification import SequenceClassification
from ...tasks.squad.question_answering import QuestionAnswering
from ...tasks.text.language_modelling import LanguageModelling
from ...tasks.text.masked_lm import MaskedLM
from ...wording import noun
from ..parsing import field_names
from ..run_arguments import RunArguments
from .decisions import Drafting
from .document import GIVEN, Line, Section
from .given import STUDENT_KEYS
from .stage_lines import stage_sections
from .student_choice import Shape
from .task_guess import describe_head
from .task_lines import task_lines

_ALWAYS = {"task", "train_file", "teacher", "methods", "output_dir", "max_seq_length"}
_METHODS = (
    "Ways to train the student, each a line of the table at the end: on the labels alone, which the others must beat; "
    "kd, the teacher's predictions; lwd, also its layers; ted, its layers through learnt filters."
)
_TARGETS = "student_size=0.5 or student_latency=0.5 of `ted init` aims at a target."

_READ_BY: dict[type, tuple[str, ...]] = {
    QuestionAnswering: (
        "doc_stride", "max_answer_length", "n_best_size", "null_score_diff_threshold", "version_2_with_negative",
    ),
    LanguageModelling: ("stride", "row_separator"), MaskedLM: ("mlm_probability",),
    SequenceClassification: ("text_pair_column", "label_separator", "validation_mismatched_file"),
}  # fmt: skip
"""Keys that one kind of task alone reads."""
_TRIM = "student_trim: train leaves out the tokens that the training texts lack when the best student is finished."


def body_of(drafting: Drafting) -> list[Section]:
    """The sections of the document."""
    task = list(task_lines(drafting))
    models, run = list(_models(drafting)), list(_run(drafting))
    return [
        Section(task, "The task and its data."),
        Section(models, "The models.", notes=[] if "student_trim" in drafting.given.top else [_TRIM]),
        Section(run, "The run."),
        *stage_sections(drafting),
        Section([], notes=[_others({line.key for line in (*task, *models, *run)} | _of_other_tasks(drafting.task))]),
    ]


def _of_other_tasks(task: Task) -> set[str]:
    return {key for kind, keys in _READ_BY.items() if not isinstance(task, kind) for key in keys}


def _others(said: set[str]) -> str:
    """The keys that are not in the document."""
    names = ", ".join(
        name
        for kind in (TaskArguments, ModelArguments, RunArguments)
        for name in sorted(field_names(kind) - _ALWAYS - said)
    )
    return (
        f"Other keys, all with defaults; docs/recipes.md says what each means. At the top level: {names}. In sections: "
        "all of transformers.TrainingArguments, and those of Stage II. Sections for one stage or method alone: "
        "finetune_teacher, learn_filters_teacher, learn_filters_student, kd, lwd, ted; the most specific wins."
    )


def _models(drafting: Drafting) -> Iterator[Line]:
    given, config = drafting.given, drafting.model.config
    as_is = given.sections.get("finetune_teacher") is False
    about = (
        f"{config.model_type}, {num_blocks(config)} blocks of width {width(config)}, {describe_head(drafting.teacher)}."
    )
    if not drafting.fit.tuned and not as_is:
        about += f" It is fine-tuned first: {drafting.fit.why}."
    yield Line("teacher", str(given.run.teacher), about)
    if as_is:
        yield Line("finetune_teacher", False, GIVEN)
    elif drafting.takes_teacher_as_it_is:
        yield Line("finetune_teacher", False, f"The teacher is used as it is: {drafting.fit.why}.")
    if drafting.shape is not None:
        yield from _student(drafting, drafting.shape)
    for key in given.top:
        if key in STUDENT_KEYS or key in field_names(ModelArguments):
            yield Line(key, given.top[key], GIVEN)


def _student(drafting: Drafting, shape: Shape) -> Iterator[Line]:
    """The blocks and the width that were chosen."""
    family, given = drafting.family, drafting.given
    is_narrow = shape.width != family.width
    layers = family.layers(shape.blocks)
    kept = f"The student is made of the teacher's {noun(len(layers), 'block')} {', '.join(map(str, layers))}"
    what = "parameters" if given.size is not None else "time for a row"
    target = given.size if given.size is not None else given.latency
    if target is None:
        first = "block 1, which is the only one of its kind, and " if family.needs_first else ""
        which = (
            "the first, as tokens have predictions of their own"
            if family.first
            else f"evenly spaced with {first}the last"
        )
        why = f"{kept}: half of them, {which}. {_TARGETS}"
    elif is_narrow:
        why = f"{kept}: fewer blocks alone do not reach {target:g} of the teacher's {what}."
    else:
        why = f"{kept}: the most that have at most {target:g} of the teacher's {what}."
    if shape.blocks < family.total:
        yield (
            Line("student_layers", layers, why) if family.needs_first else Line("student_num_layers", shape.blocks, why)
        )
    if is_narrow:
        reach = f"The largest of whole heads that reaches {target:g} of the teacher's {what}."
        yield Line("student_hidden_size", shape.width, f"Width; the teacher's is {family.width}. {reach}")


def _run(drafting: Drafting) -> Iterator[Line]:
    given, run = drafting.given.top, drafting.given.run
    yield Line("methods", run.methods, GIVEN if "methods" in given else _METHODS)
    others = field_names(RunArguments) - {"methods", "output_dir", "teacher", *STUDENT_KEYS}
    yield from (Line(key, given[key], GIVEN) for key in given if key in others)
    yield Line("output_dir", run.output_dir or f"runs/{drafting.name}", "Folder of everything that is written.")
