"""The recipe that a run or a comparison leaves in its folder, which may be read again from anywhere."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from ..identity import commits, pin
from ..models.given import was_in_memory
from ..output import SETTINGS_NAME, atomic_files, on_main, read_json, write_json
from ..output.files import partial_folder
from ..ranges import expanded
from ..secrets import content_without_secrets
from ..stages.methods import IDENTITY, LEARNED, LEAST_SQUARES, RANDOM
from ..tasks import Task, TaskArguments
from ..tasks.task_arguments import own_task_of
from ..wording import and_list
from .parsing import field_names, read_yaml

logger = logging.getLogger(__name__)

_HEAD = "# Relative paths of data, models and output_dir are seen from"
_PLACE = re.compile(rf"^{_HEAD} (.+)$", re.MULTILINE)
DATA_FILES = {name for name in field_names(TaskArguments) if name.endswith("_file")}
"""Keys that hold the path of a file of rows."""
PATHS = {
    "teacher", "student", "dataset_name", "output_dir", *DATA_FILES, "student_filters", "cache_dir", "deepspeed",
    "fsdp_config",
}  # fmt: skip
"""Keys whose values may be paths: those that are there, seen from the folder where the recipe was run."""
_NAMES = {LEARNED, LEAST_SQUARES, RANDOM, IDENTITY}
"""Values of `student_filters` that are no folder."""
_INSTEAD: dict[str, list[str]] = {"teacher": [], "student": []}
"""What may be given in place of a key besides itself: for rows, a data set of the Hub."""
RECIPE_NAME = "recipe.yaml"
"""The recipe in a folder of a run, or of a comparison."""
COMPARISON = "compare"
"""Folder of a comparison in that of a run."""
COMMITS_NAME = "hub.json"
"""The commits of the models and data that a run has from the Hub, by name and revision."""
_IN_MEMORY = "# In memory, where no recipe finds it:"
_DEPTH = 3
"""A recipe lies in its run's folder, or in that of a comparison or of one of its seeds."""


def in_memory(models: Mapping[str, str], task: Task) -> list[str]:
    """What Python gave a run that is in no file: of `teacher` and `student`, and the splits with rows."""
    return [*(owner for owner, name in models.items() if was_in_memory(name)), *task.given]


def read_commits(folder: Path) -> None:
    """Let names on the Hub stand for what they did when the run or comparison that this folder belongs to began."""
    pin(_recorded_commits(folder) or _recorded_commits(_of_comparison(folder.absolute())))


def record_commits(folder: Path) -> None:
    """Record what names on the Hub stand for, for the processes that go on with the run in this folder."""

    def record() -> None:
        if not commits():
            return
        # Of processes that begin at once, the first decides, where the disk has links.
        with partial_folder(folder) as partial, suppress(OSError):
            write_json(partial / COMMITS_NAME, commits())
            os.link(partial / COMMITS_NAME, folder / COMMITS_NAME)
        found = _recorded_commits(folder)
        if found != (more := {**commits(), **found}):
            with atomic_files(folder) as partial:
                write_json(partial / COMMITS_NAME, more)

    on_main(record)
    pin(_recorded_commits(folder))


def _of_comparison(folder: Path) -> Path:
    """The folder that a comparison, or one of its seeds, shares with the others; of another folder, itself."""
    for place in (folder, folder.parent):
        if place.name == COMPARISON and (place / RECIPE_NAME).is_file():
            return place.parent
    return folder


def _recorded_commits(folder: Path) -> dict[str, str]:
    found = read_json(folder / COMMITS_NAME)
    return {str(name): str(commit) for name, commit in found.items()} if isinstance(found, dict) else {}


def recorded_text(content: Mapping[str, Any], head: str, folder: Path, given: Sequence[str] = ()) -> str:
    """A recipe as it is written into a folder, with notes of the folder that its relative paths start from, and of
    what was in memory.

    Args:
        head: its first line, a comment.
        given: see `in_memory`.
    """
    text = yaml.safe_dump(content_without_secrets(content), sort_keys=False, allow_unicode=True)
    try:
        place = f"{_HEAD} {os.path.relpath(Path.cwd(), folder.resolve())}\n"
    except ValueError:  # two drives
        place = ""
    note = f"{_IN_MEMORY} {', '.join(given)}\n" if given else ""
    return f"{head}{place}{note}{text}"


def refuse_in_memory(file: Path, given: Iterable[str] = ()) -> None:
    """Refuse to repeat a run whose models or rows were in memory, unless others are given.

    Args:
        file: a recipe.
        given: keys whose values replace its own.

    Raises:
        InputError: names what is missing, and the keys that would give it.
    """
    keys = {name: name if name in ("teacher", "student") else f"{name}_file" for name in were_in_memory(file)}
    known = {*given}
    if missing := [name for name, key in keys.items() if not {key, *_INSTEAD.get(key, ["dataset_name"])} & known]:
        raise InputError(
            f"recipe: expected {and_list(missing)} in files, got the recipe of a run that Python gave them to; give "
            f"{', '.join(f'{keys[name]}=...' for name in missing)}, or run it from Python again"
        )


def were_in_memory(file: Path) -> list[str]:
    """What a recorded recipe's run had in memory: of `teacher` and `student`, and the splits with rows."""
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n", 3)[:3]
    named = next((line[len(_IN_MEMORY) :].split(",") for line in lines if line.startswith(_IN_MEMORY)), [])
    return [name.strip() for name in named]


def refuse_unrecorded(folder: Path, names: Iterable[str], head: str, kind: str) -> None:
    """Refuse a folder that holds a recipe or results that this package did not write.

    Args:
        names: of the files that would be written over.
        head: the first line of the recipes that such a folder has.
        kind: of the folder, for the message: `run` or `comparison`.

    Raises:
        InputError: names the files.
    """
    file = folder / RECIPE_NAME
    held = [name for name in names if (folder / name).exists()]
    if held and not (file.is_file() and file.read_text("utf-8", errors="replace").startswith(head)):
        raise InputError(
            f"output_dir: expected a new folder, or one of a {kind}, got {folder}, where no {kind} wrote "
            f"{', '.join(held)}; give another output_dir"
        )


def seen_from_here(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The content of a recipe file, with its recorded paths made relative to the working directory.

    A path that is not there any more stays as it is, with a warning if there is another of this name here; and so does
    every recipe that nobody recorded, or that was copied out of the folder of its run.
    """
    base = _recorded_place(content, file)
    if base is None or base == Path.cwd():
        return content
    for name, value, place in _moved(content, base):
        if Path(value).exists():
            logger.warning(
                "%s: expected %s, as %s has recorded it, got none there; taking the one of this name in %s",
                name, place, file, Path.cwd(),
            )  # fmt: skip
    return _seen(content, base)


def moved_since(content: Mapping[str, Any], file: Path) -> dict[str, Path]:
    """Keys of a recorded recipe, with their sections, whose paths are not where they were -> where that was."""
    base = _recorded_place(content, file)
    return {} if base is None else {name: place for name, _, place in _moved(content, base)}


def _moved(content: Mapping[str, Any], base: Path, section: str = "") -> Iterator[tuple[str, str, Path]]:
    """Keys with their sections, their paths as written, and where these were, of all that is not there any more."""
    for key, value in sorted(content.items()):
        if isinstance(value, Mapping):
            yield from _moved(value, base, f"{section}{key}.")
        elif key in PATHS and not (place := base / _filled(str(value))).exists():
            yield f"{section}{key}", str(value), place


def refuse_moved(file: Path, given: Iterable[str] = ()) -> None:
    """Refuse the recipe of a folder that was moved or copied: it names the former one, where all would be made anew.

    Args:
        file: a recipe.
        given: keys whose values replace its own.

    Raises:
        InputError: says which `output_dir` to give.
    """
    if file.name != RECIPE_NAME or "output_dir" in given or not _noted_place(file):
        return
    folder, content = file.parent, read_yaml(file, "recipe")
    if _recorded_place(content, file) is not None:
        return
    if any(folder.glob(f"seed-*/*/{SETTINGS_NAME}")):
        own = folder.parent  # a comparison's
    elif any(folder.glob(f"*/{SETTINGS_NAME}")):
        own = folder
    else:
        return  # a copy of a recipe alone
    former = content.get("output_dir")
    raise InputError(
        f"output_dir: expected {own}, as the stages lie beside this recipe, got {former}, where the run was when it "
        f"recorded it; give output_dir={own}, or output_dir={former} to go on there"
    )


def _noted_place(file: Path) -> re.Match[str] | None:
    """The note of the folder that a recorded recipe's relative paths start from; None in any other recipe."""
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n", 3)[:2]
    return _PLACE.search("\n".join(lines))


def _recorded_place(content: Mapping[str, Any], file: Path) -> Path | None:
    """The folder that relative paths of a recorded recipe start from; None of one that is not in its run's folder."""
    place = _noted_place(file)
    if place is None:
        return None
    folder = file.resolve().parent
    base = (folder / place[1]).resolve()
    recorded = (base / _filled(str(content.get("output_dir")))).resolve()
    return base if recorded in (folder, *folder.parents)[:_DEPTH] else None


def _seen(content: dict[str, Any], base: Path) -> dict[str, Any]:
    return {key: _seen_value(key, value, base) for key, value in content.items()}


def _seen_value(key: str, value: Any, base: Path) -> Any:
    if isinstance(value, dict):
        return _seen(value, base)
    if key == "task" and isinstance(value, str) and (own := own_task_of(value)):
        return f"{_seen_path(own[0], base)}:{own[1]}"
    is_path = key in PATHS and isinstance(value, str) and value not in _NAMES
    return _seen_path(value, base) if is_path else value


def _seen_path(value: str, base: Path) -> str:
    if Path(value).is_absolute():
        return value
    place = base / _filled(value)
    # Unlike those of `Path`, this function has an answer for folders of others.
    return str(place) if os.path.exists(place) else value  # noqa: PTH110


def _filled(path: str) -> str:
    """A path with its variables replaced, if they are set: a key that is not may be replaced as a whole."""
    with suppress(InputError):
        return expanded(path)
    return path
