"""The sections of a drafted recipe: how each stage is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...method.shapes import width
from ...models.load import load_config
from ...models.narrowing.narrow import narrow_config
from ...stages.distill_arguments import KL_ALPHA, MSE_ALPHA
from ...stages.methods import METHODS
from ...training.stage_defaults import DISTILL, FINETUNE, StageDefaults, learn_filters_defaults
from ...wording import counted
from .decisions import Drafting
from .document import GIVEN, Line, Section

_BATCH, _SEED, _TEMPERATURE = 16, 42, 2.0
_UPDATES, _MOST_EPOCHS = 200, 20
"""Updates that a stage should have at least, and the most epochs that rows are repeated for that."""
_STREAM_STEPS, _EVALUATIONS = 1000, 5
_TITLES = {
    "training": "All stages.",
    "finetune": "Before Stage I: the teacher learns the task.",
    "learn_filters": "Stage I: filters learn what the task needs of each layer.",
    "distill": "Stage II: the student learns from the teacher.",
}


def stage_sections(drafting: Drafting) -> Iterator[Section]:
    """`training`, the stages that the recipe has, and other sections as they were given."""
    of = {"training": _training(drafting), "finetune": _finetune(drafting), "distill": _distill(drafting)}
    if not _finetunes(drafting):
        del of["finetune"]
    if any(METHODS[name].learners(None) for name in drafting.given.run.methods):
        of["learn_filters"] = _learn_filters(drafting)
    for name in [name for name in _TITLES if name in of]:
        yield Section(_with_given(drafting, name, list(of[name])), _TITLES[name], name)
    for name, values in drafting.given.sections.items():
        if name not in of and isinstance(values, dict):
            yield Section([Line(str(key), value) for key, value in values.items()], GIVEN, name)


def _training(drafting: Drafting) -> Iterator[Line]:
    yield Line("per_device_train_batch_size", _BATCH, "Rows per update on each device.")
    yield Line("seed", _SEED, "Of everything that is drawn at random.")
    if drafting.is_stream:
        every = _STREAM_STEPS // _EVALUATIONS
        yield Line("max_steps", _STREAM_STEPS, "Updates of each stage, as a stream has no known end.")
        yield Line("eval_strategy", "steps", "A stream has no epochs after which models could be scored.")
        yield Line("save_strategy", "steps", "The best checkpoint is kept, so that each that is scored is saved.")
        yield Line("eval_steps", every, "Updates from one evaluation to the next.")
        yield Line("save_steps", every, "Updates from one checkpoint to the next.")


def _finetune(drafting: Drafting) -> Iterator[Line]:
    config = drafting.teacher.config
    why = f"Peak; the default at width {width(config)}. `auto` tries several on a part of the rows."
    if not _finetunes_student(drafting):  # whose default is another, unless it is as wide
        yield Line("learning_rate", FINETUNE.rate_of(config), why)
    yield from _epochs(drafting, FINETUNE, "finetune")


def _learn_filters(drafting: Drafting) -> Iterator[Line]:
    task = drafting.task
    defaults = learn_filters_defaults(task.first_token_only, task.running_text)
    yield Line("learning_rate", defaults.rate, "Peak; filters are small and learn fast.")
    if not drafting.is_stream:
        cheap = "; cheap, as a filter head reads one state of each row" if task.first_token_only else ""
        yield Line("num_train_epochs", defaults.epochs, f"Passes over the rows; the default{cheap}.")


def _distill(drafting: Drafting) -> Iterator[Line]:
    yield Line("learning_rate", DISTILL.rate_of(_student_config(drafting)), "Peak; the default at the student's width.")
    yield from _epochs(drafting, DISTILL, "distill")
    yield Line("kl_alpha", KL_ALPHA, "Weight of matching the teacher's predictions; the labels have weight 1.")
    yield Line("mse_alpha", MSE_ALPHA, "Weight of matching its layers, for methods that do.")
    yield Line("temperature", _TEMPERATURE, "Softens both predictions before they are compared; 1 changes nothing.")


def _epochs(drafting: Drafting, defaults: StageDefaults, section: str) -> Iterator[Line]:
    """Passes over the rows: more than usual where there are very few updates in one. None for a stream."""
    if drafting.is_stream:
        return
    usual, features = defaults.epochs, drafting.data.features
    each = -(-features // _rows_per_update(drafting, section)) if isinstance(features, int) else _UPDATES
    if usual * each >= _UPDATES:
        why = f"Passes over the rows, {each} updates each; the default. The best of them is kept."
        yield Line("num_train_epochs", usual, why)
        return
    one = counted(each, "update")
    why = f"Passes over the rows: more than the usual {usual:g}, as one is only {one}. The best of them is kept."
    yield Line("num_train_epochs", min(_MOST_EPOCHS, -(-_UPDATES // each)), why)


def _rows_per_update(drafting: Drafting, section: str) -> int:
    """Of a stage on one device, as it was given or as we set it."""
    rows = 1
    for key, usual in (("per_device_train_batch_size", _BATCH), ("gradient_accumulation_steps", 1)):
        given = [drafting.given.sections.get(name) for name in (section, "training")]
        rows *= next((int(one[key]) for one in given if isinstance(one, dict) and one.get(key)), usual)
    return max(1, rows)


def _finetunes(drafting: Drafting) -> bool:
    """Whether a model is fine-tuned: the teacher, or a student that is not made of it."""
    tunes_teacher = drafting.given.sections.get("finetune_teacher") is not False and not drafting.takes_teacher_as_it_is
    return tunes_teacher or _finetunes_student(drafting)


def _finetunes_student(drafting: Drafting) -> bool:
    """Whether a student that is not made of the teacher is fine-tuned before it is distilled."""
    is_own = not drafting.chooses_student and not drafting.given.run.made_of_teacher
    return is_own and drafting.given.sections.get("finetune_student") is not False


def _with_given(drafting: Drafting, name: str, lines: list[Line]) -> list[Line]:
    """The lines, with given values in place of ours; ours would also override what was given for all stages."""
    given = drafting.given.sections.get(name)
    given = given if isinstance(given, dict) else {}
    every = drafting.given.sections.get("training") if name != "training" else None
    hidden = {*given, *(every if isinstance(every, dict) else ())}
    if "max_steps" in hidden:
        hidden.add("num_train_epochs")
    kept = [line for line in lines if line.key not in hidden]
    return [*kept, *(Line(str(key), value, GIVEN) for key, value in given.items())]


def _student_config(drafting: Drafting) -> Any:
    """The config of the student, whose width decides its learning rate."""
    if drafting.shape is not None:
        return drafting.family.student(drafting.shape).config
    run = drafting.given.run
    config = load_config(run.student, drafting.given.model) if run.student else drafting.teacher.config
    return narrow_config(config, run.student_hidden_size) if run.student_hidden_size else config
