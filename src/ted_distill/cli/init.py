"""`ted init`: a recipe for a teacher and a data file; and the recipes that `ted run` and `ted show` make of flags."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..ranges import expanded
from .dialect import CHANGES, EITHER, changes, content_of, is_change, take

logger = logging.getLogger(__name__)

HELP = f"""usage: ted init TEACHER --train_file FILE [-o RECIPE.yaml] [--force] {CHANGES}

Looks at a model and at a data file, and writes a recipe for `ted run`: every key that matters with its value, its unit
and the reason for it. What cannot be told from the two is asked for in one line.

  TEACHER                  folder or Hub id; one that has a trained head for these labels is used as it is
  --train_file FILE        csv, tsv, json, jsonl, parquet, conll or txt
  --validation_file FILE   rows to choose by [a part of the training rows, of each class its share]
  --test_file FILE         rows to score finished models on, once
  --task NAME              `ted list` has them [by the columns, the labels and the teacher's head]
  --text_column NAME       and --text_pair_column, --label_column [by their names and what they hold]
  --student_size 0.5       share of the teacher's parameters, embeddings counted [half of its blocks]
  --student_latency 0.5    share of the teacher's time for one row, measured on this machine
  -o RECIPE.yaml           where to write it [named after the data]; the run's folder is runs/RECIPE
  --force                  write over a file that exists

All keys of a recipe work (docs/recipes.md) and win: --max_train_samples 5000, --methods=[kd,ted], training.seed=7.
{EITHER}
"""


def read_init(words: list[str]) -> tuple[Path, bool, dict[str, Any]]:
    """The file to write, whether it may exist, and the keys that are given.

    Raises:
        InputError: a word that belongs to no key, no file after `-o`, or a file that exists.
    """
    from ..runs.drafting import check_new, data_name

    files, others = take(words, "-o", "--output")
    for file in files:
        if not file or file.startswith("-"):
            raise InputError(f"-o: expected a file to write, got {file or 'nothing'}; write -o RECIPE.yaml")
    force = "--force" in others
    others = [word for word in others if word != "--force"]
    teacher = [] if not others or is_change(others[0]) else [f"teacher={others.pop(0)}"]
    content = content_of([*teacher, *changes(others)])
    last = files[-1] if files else None
    written = Path(last or f"{data_name(content)}.yaml")
    check_new(written, force=force)
    return written, force, content


def init(file: Path, force: bool, content: dict[str, Any]) -> None:
    """Write a recipe, and say what was decided."""
    from ..output import program
    from ..runs.drafting import draft_from
    from ..runs.recipe_files import run_of_file

    draft = draft_from(content, run_of_file(file), str(file))
    draft.save(file, force=force)
    said = "".join(f"{note}\n" for note in draft.notes)
    name = shlex.quote(str(file))
    commands = "; ".join(f"{program()} {command} {name}" for command in ("check", "run", "compare"))
    sys.stdout.write(f"{said}\n{file}\n\nnext: {commands}\n")


def draft_of(command: str, given: list[str], first: str = "nothing") -> Any:
    """The draft that a command makes of changes alone, as if `ted init` had written it.

    Args:
        first: the first word after the command, for messages.

    Raises:
        InputError: no teacher or no data among them, or see `draft_from`.
    """
    from ..runs.drafting import draft_from

    content = content_of(given)
    if "teacher" not in content or not {"train_file", "dataset_name", "task"} & {*content}:
        raise InputError(
            f"expected a recipe, got {first}; write ted {command} RECIPE {CHANGES}, where RECIPE is a YAML file or a "
            f"name that `ted list` prints, or ted {command} --teacher MODEL --train_file FILE {CHANGES}"
        )
    if "student_latency" in content:
        _measure_once(content)
    return draft_from(content)


def _measure_once(content: dict[str, Any]) -> None:
    """Put the student of a run that was started before in place of a target, so that the same command resumes it.

    Raises:
        InputError: there are several processes, each of which would measure something else.
    """
    from ..output.processes import process_count
    from ..runs.drafting import run_name
    from ..runs.parsing import read_yaml

    if process_count() > 1:
        raise InputError(
            "student_latency: expected one process, got several, which would not measure the same; write the recipe "
            "with ted init first, and run that"
        )
    folder = Path(expanded(str(content.get("output_dir") or f"runs/{run_name(content)}"), "output_dir"))
    if not (folder / "recipe.yaml").is_file():
        return
    held = read_yaml(folder / "recipe.yaml", "recipe")
    student = {key: held[key] for key in ("student_layers", "student_num_layers", "student_hidden_size") if key in held}
    if student and held.get("teacher") == content["teacher"]:
        del content["student_latency"]
        content |= student
        logger.warning(
            "student_latency: not measured again, as %s has a run with %s; for another student give another output_dir",
            folder, ", ".join(f"{key} {value}" for key, value in student.items()),
        )  # fmt: skip
