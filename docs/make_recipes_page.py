"""Writes docs/recipes.md: every key of a recipe, from the dataclasses that read them.

python docs/make_recipes_page.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin

from transformers import TrainingArguments

from ted_distill.cli.help_screen import WORDS
from ted_distill.models.load import ModelArguments
from ted_distill.ranges import ranges_of
from ted_distill.runs.parsing import Setting, field_names, settings_of
from ted_distill.runs.recipe_keys import FINETUNE, LEARN_FILTERS, SET_BY_THE_RUN, SHARED, sections_of
from ted_distill.runs.run_arguments import RunArguments
from ted_distill.stages import DistillArguments
from ted_distill.stages.methods import METHODS
from ted_distill.tasks import TaskArguments
from ted_distill.training.stage_arguments import StageArguments

PAGE = Path(__file__).parent / "recipes.md"
_BRACKET = re.compile(r"\s*\[([^\[\]]*)\]$")
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", dict: "mapping"}
_MANY = {int: "whole numbers", float: "numbers"}

_INTRODUCTION = """# Recipes: every key

A recipe is a YAML file of `key: value` lines. `ted init TEACHER --train_file FILE` writes one, `ted show RECIPE` says
what it would do, and `ted run RECIPE` does it. Changes on the command line win: `key=value`, `--key=value` and
`--key value` mean the same, `section.key=value` reaches into a section, and `key=null` takes a key out. Paths
are relative to the folder where the command is run. In paths, `~` is the home folder, and `$NAME` or `${NAME}` the
value of an environment variable, as in `output_dir: $SCRATCH/run`; a variable that is not set is refused.

`ted run --teacher MODEL --train_file FILE` without a recipe makes the one that `ted init` would write, prints it and
runs it. `ted finetune`, `ted learn-filters` and `ted distill` take a recipe after `--config`: each reads the keys of
task and models and the sections of its stage, and says which keys it reads and which it does not use.

This page is written by `docs/make_recipes_page.py` from the dataclasses that read the keys; a test keeps it true.
"""

_SECTIONS = """## Sections

A section holds keys of one stage, or of several. The most specific section wins.

| section | read by | its keys |
|---|---|---|
{rows}

`finetune_teacher: false` and `finetune_student: false` use that model as it is. In sections that several methods share,
keys that mean nothing to one of them are left out for it; in a method's own section they are refused. {set_by_run} are
set by the run.

Two more sections are not stages:

- `score_on`: more data to score all finished models on, each under a name of yours, with keys of a task:
  `score_on.news.task`, `score_on.news.validation_file`. No weights and no choice depend on them. A key that an entry
  does not set has its task's default and not the run's value: give `max_seq_length`, for one, there too.
- `from_scratch`: in place of `teacher`, a model of random weights, and a tokenizer made of the training text:
  `model_type` (a family of transformers, such as gpt2), `vocab_size` [8000], `special_tokens`, and any fields of that
  family's config.
"""

_TRAINING = """## Training of each stage

Keys of `training` and of every section of a stage: all of
[transformers.TrainingArguments](https://huggingface.co/docs/transformers/main_classes/trainer#transformers.TrainingArguments),
with the defaults below where they differ, and these of this package.

{own}

Of those inherited, these are set most often; `ted finetune --help-all` lists all of them.

{inherited}
"""

_RUN = "## The run\n\nAt the top level.\n"
_TASK = "## The task and its data\n\nAt the top level; [Data files](data.md) has the formats of files.\n"
_MODELS = (
    "## How models are loaded\n\nAt the top level; all but `model_revision` also in `finetune`, `finetune_teacher`, "
    "`finetune_student`.\n"
)
_STAGE_TWO = """## Stage II

Keys of `distill` and of a method's own section. [The method](method.md) explains the terms.
"""


def page() -> str:
    """The page."""
    sections = _SECTIONS.format(rows="\n".join(_section_rows()), set_by_run=_listed(sorted(SET_BY_THE_RUN)))
    return "\n".join(
        [
            _INTRODUCTION,
            *(_RUN, table([RunArguments])),
            *(_TASK, table([TaskArguments])),
            *(_MODELS, table([ModelArguments])),
            *(sections, _training()),
            *(_STAGE_TWO, table([DistillArguments], without=SET_BY_THE_RUN)),
        ]
    )


def table(kinds: Iterable[type], only: Iterable[str] | None = None, without: Iterable[str] = ()) -> str:
    """A table with a row for each key of some dataclasses."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for kind in kinds:
        settings, ranges = settings_of([kind]), ranges_of(kind)
        for field in fields(kind):
            if field.name not in settings or field.name in without or (only is not None and field.name not in only):
                continue
            brief = WORDS.get(field.name) if kind is StageArguments else None
            text = " ".join(str(brief or field.metadata.get("help") or "").split())
            value = _value(settings[field.name], ranges.get(field.name))
            cells = (f"`{field.name}`", value, _default(field, text), _BRACKET.sub("", text))
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _section_rows() -> Iterable[str]:
    stages = [*FINETUNE, *LEARN_FILTERS, *METHODS]
    of_kind = {"finetune": "training, models", "learn_filters": "training", "distill": "training, Stage II"}
    for name in SHARED:
        readers = [stage for stage in stages if name in sections_of(stage)]
        read_by = "every stage" if len(readers) == len(stages) else _listed(readers)
        yield f"| `{name}` | {read_by} | {of_kind.get(name, 'training')} |"
    for name in stages:
        yield f"| `{name}` | this stage alone | {of_kind[sections_of(name)[1]]} |"


def _training() -> str:
    own = {name for name in StageArguments.__annotations__ if name in field_names(StageArguments)}
    inherited = {*WORDS} & field_names(TrainingArguments) - own - {"output_dir"}
    return _TRAINING.format(
        own=table([StageArguments], only=own).rstrip(), inherited=table([StageArguments], only=inherited).rstrip()
    )


def _value(setting: Setting, allowed: Any) -> str:
    """Type and range, in words."""
    choices = setting.choices or tuple(allowed.choices if allowed else ())
    many = any(get_origin(kind) is list for kind in setting.types)
    if choices:
        return f"{'some' if many else 'one'} of {_listed(choices)}"
    names = []
    for kind in setting.types:
        item = get_args(kind)[0] if get_origin(kind) is list else get_origin(kind) or kind
        names.append(_MANY.get(item, "list of texts") if get_origin(kind) is list else _KINDS.get(item, "text"))
    short = allowed.short if allowed else ""
    return " or ".join(dict.fromkeys(names)) + (f", {short}" if short else "")


def _default(field: Any, text: str) -> str:
    value = field.default if field.default is not MISSING else field.default_factory()
    bracket = _BRACKET.search(text)
    value = getattr(value, "value", value)
    if value is None or value == "":
        return bracket[1] if bracket else "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
