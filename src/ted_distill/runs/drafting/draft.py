"""A recipe drafted for a teacher and a data file: read both, decide what can be decided, say why, ask for the rest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...entries import typed
from ...errors import InputError
from ...output import PARTIAL
from ..planning import Plan, plan, plan_stages
from ..planning.features import without_progress_bars
from ..recipe import Recipe, read_recipe
from .decisions import Drafting
from .document import write_document
from .given import read_given
from .header import header_of, notes_of
from .lines import body_of


@dataclass(frozen=True)
class Draft:
    """A recipe that was drafted, as a commented document and as it is read back."""

    text: str
    recipe: Recipe
    notes: tuple[str, ...]
    """What was decided, and why, in a few lines."""

    def save(self, file: str | Path, *, force: bool = False) -> Path:
        """Write the document.

        Raises:
            InputError: there is such a file, and it is not to be replaced (`force`); or it cannot be written.
        """
        file = Path(file)
        check_new(file, force=force)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(prefix=PARTIAL, dir=file.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as text:
                text.write(self.text)
            _publish(Path(part), file, force=force)
        except FileExistsError as error:
            if file.exists():
                raise _in_the_way(file) from error
            where = f"{error.filename} is a file"
            raise InputError(f"output: {file} cannot be written ({where}); give another with -o") from error
        except OSError as error:
            raise InputError(f"output: {file} cannot be written ({error.strerror}); give another with -o") from error
        return file


def check_new(file: Path, *, force: bool) -> None:
    """Refuse a file that exists, unless `force`d, and a folder. Raises `InputError`."""
    if file.is_dir() or (file.exists() and not force):
        raise _in_the_way(file)


def _in_the_way(file: Path) -> InputError:
    what = "is a folder" if file.is_dir() else "exists already"
    force = "" if file.is_dir() else ", or --force to write over it"
    return InputError(f"output: expected a new file, got {file}, which {what}; give another with -o{force}")


def _publish(part: Path, file: Path, *, force: bool) -> None:
    """Give a whole file its name. Raises `FileExistsError` where another process was faster."""
    umask = os.umask(0)
    os.umask(umask)
    part.chmod(0o666 & ~umask)
    try:
        if force:
            part.replace(file)
        else:
            _link(part, file)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _link(part: Path, file: Path) -> None:
    """Give a file a name that is free. Raises `FileExistsError` where it is not."""
    try:
        os.link(part, file)
    except FileExistsError:
        raise
    except OSError:  # disks of some kinds have no second name for a file
        with file.open("x", encoding="utf-8") as copy:
            copy.write(part.read_text(encoding="utf-8"))


@typed
def draft_recipe(teacher: str | Path, *, name: str | None = None, file: str = "RECIPE.yaml", **keys: Any) -> Draft:
    """Draft a recipe that runs, from a teacher and data.

    Args:
        teacher: a folder or Hub id.
        name: of the run's folder below `runs/` [after data and teacher].
        file: that the recipe will be saved as, for the commands in its first lines.
        keys: `train_file`, and any other keys of a recipe, which win; a section is a dictionary. `student_size=0.5` or
            `student_latency=0.5` chooses the student by its share of the teacher's parameters or of its time for a row.

    Raises:
        InputError: with what is wrong, or with the question that has to be answered first.
    """
    return draft_from({**keys, "teacher": str(teacher)}, name, file)


def draft_from(content: Mapping[str, Any], name: str | None = None, file: str = "RECIPE.yaml") -> Draft:
    """The draft of keys as `draft_recipe` takes them, `teacher` among them. Raises `InputError`."""
    given = read_given(dict(content))
    with without_progress_bars():
        drafting = Drafting(given, name)
        sections = body_of(drafting)
        planned = checked(write_document([], sections))
    text = write_document(header_of(drafting, planned, file), sections)
    return Draft(text, read_text(text), tuple(notes_of(drafting, planned)))


def read_text(text: str) -> Recipe:
    """A document as a run reads it. Raises `InputError`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(text, encoding="utf-8")
        return read_recipe(file)


def checked(text: str) -> Plan:
    """The plan of a document. Raises `InputError` for what a run would refuse before its first stage."""
    planned = plan(read_text(text), tokenise=False)
    plan_stages(planned)
    return planned
