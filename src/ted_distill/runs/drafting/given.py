"""What the author of a recipe has said already: keys of a recipe, and how small or fast the student is to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import collect, raise_if_any, shown
from ...models.load import ModelArguments
from ...ranges import inside
from ...tasks import TaskArguments, load_task
from ..parsing import convert, field_names, from_values, with_numbers
from ..recipe import wrong_sections
from ..recipe_keys import FROM_SCRATCH, SECTIONS, as_meant, top_and_sections, unknown_key, with_student_keys
from ..run_arguments import RunArguments

STUDENT_KEYS = ("student", "student_layers", "student_num_layers", "student_hidden_size")
TARGETS = ("student_size", "student_latency")
_SHARE = inside(0, 1)


@dataclass(frozen=True)
class Given:
    """Checked keys: as they were given, and as dataclasses."""

    top: dict[str, Any]
    """Keys that stand alone, converted to their types."""
    sections: dict[str, Any]
    run: RunArguments
    task: TaskArguments
    model: ModelArguments
    size: float | None
    latency: float | None

    def has(self, section: str, key: str) -> bool:
        """Whether a key of a section was given there."""
        held = self.sections.get(section)
        return isinstance(held, dict) and key in held


def read_given(content: dict[str, Any]) -> Given:
    """Check the keys that were given.

    Raises:
        InputError: with all problems: unknown keys, values that do not fit, a target with a student, no teacher.
    """
    content = {key: value for key, value in content.items() if value is not None}
    problems: list[str] = []
    content = as_meant(with_student_keys(content, problems))
    targets = {key: _share(key, content.pop(key), problems) for key in TARGETS if key in content}
    top, sections = top_and_sections(content)
    sections = with_numbers(sections)  # as 1e-4, which YAML takes for text
    problems += wrong_sections(sections)
    kinds = (RunArguments, TaskArguments, ModelArguments)
    for key in [key for key in top if key not in field_names(*kinds)]:
        problems.append(unknown_key(key, field_names(*kinds) | SECTIONS | {*TARGETS}))
        del top[key]
    if FROM_SCRATCH in sections:
        problems.append("from_scratch: expected a teacher to look at, got one to be made; write that recipe by hand")
    if not top.get("teacher"):
        problems.append("teacher: expected a folder or Hub id, got nothing; write ted init TEACHER --train_file FILE")
    if len(targets) > 1:
        problems.append("student_size: expected this or student_latency, got both; leave out one of them")
    students = [key for key in STUDENT_KEYS if key in top]
    if targets and students:
        problems.append(f"{next(iter(targets))}: expected this or {students[0]}, got both; leave out one of them")
    if "task" in top:
        with collect(problems):
            load_task(TaskArguments(task=str(top["task"])))
    made: Any = None
    with collect(problems):
        made = from_values(kinds, top, "recipe")
    raise_if_any(problems)
    run, task, model = made
    converted = convert(kinds, top, "recipe", [])
    return Given(converted, sections, run, task, model, targets.get("student_size"), targets.get("student_latency"))


def _share(key: str, value: Any, problems: list[str]) -> float | None:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = float("nan")
    if isinstance(value, bool) or not _SHARE.holds(share):
        problems.append(
            f"{key}: expected a share of the teacher's {_SHARE.words}, such as 0.5 for half of it, got {shown(value)}"
        )
        return None
    return share
