"""What is measured: checkpoints, folders of `ted export`, or the models of a finished run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, collect, raise_if_any
from ..export.exporting import EXPORT_NAME, Exported, read_export
from ..models.load import ModelArguments
from ..models.places import resolve_place
from ..output import check_inputs, short_name
from ..report.folders import RESULTS, Reported, read_folder
from ..report.standings import standings
from ..runs.dropped_models import is_deleted
from ..runs.recorded import COMPARISON
from ..runs.run_folder import COMPARISON_NAME
from ..runs.table import BEST
from ..wording import and_list


@dataclass(frozen=True)
class Candidate:
    """One model.

    Attributes:
        title: unlike that of any other.
        place: folder or Hub id.
        export: what the folder holds, if it is one of `ted export`: its files are measured as they are.
    """

    title: str
    place: str
    loading: ModelArguments
    is_teacher: bool = False
    export: Exported | None = None


def is_run(place: str) -> bool:
    """Whether a folder is that of a run or a comparison that has finished."""
    folder = Path(place)
    names = RESULTS, COMPARISON_NAME, f"{COMPARISON}/{COMPARISON_NAME}"
    return not (folder / "config.json").is_file() and any((folder / name).is_file() for name in names)


def of_run(folder: str, problems: list[str]) -> tuple[Reported, list[Candidate]]:
    """The teacher and the trained students of a run, of a comparison those of its first seed.

    Args:
        problems: of single models, such as those that `keep: best` has deleted, are added to it.

    Raises:
        InputError: nothing has finished there.
    """
    reported = read_folder(Path(folder))
    owners = {reported.folder, reported.shared}
    found, deleted = [], []
    models = standings(reported, {})
    is_trimmed = any(one.role == "trimmed" for one in models)
    for one in models:
        if one.role == "start":
            continue
        place = reported.model(one.name)
        if any(is_deleted(owner, place) for owner in owners):
            if not one.best or is_trimmed:
                deleted.append(one.title)
                continue
            place = str(reported.folder / BEST)
        with collect(problems):
            checked = _checked(place)
            found.append(Candidate(one.title, checked, reported.loading(one.name), one.role == "teacher"))
    if deleted:
        problems.append(f"keep: best has deleted these models: {and_list(deleted)}; those that are left are measured")
    return reported, found


def of_places(places: Sequence[str], teacher: str | None, loading: ModelArguments) -> list[Candidate]:
    """Checkpoints and folders of exports, and a teacher before them.

    Raises:
        InputError: with all problems: no such folder, one twice, a damaged one, or a teacher that is an export.
    """
    problems: list[str] = []
    found: list[tuple[str, Exported | None]] = []
    for place in [*([teacher] if teacher is not None else []), *places]:
        with collect(problems):
            checked = _checked(place)
            export = read_export(checked) if (Path(checked) / EXPORT_NAME).is_file() else None
            found.append((checked, export))
    raise_if_any(problems)
    if teacher is not None and found[0][1] is not None:
        raise InputError(
            f"teacher: expected a checkpoint that PyTorch runs, as all others are compared with it, got {teacher}, an "
            "export; give the checkpoint it was made from"
        )
    names = [str(Path(place).resolve()) if Path(place).is_dir() else place for place, _ in found]
    twice = [place for (place, _), count in zip(found, map(names.count, names), strict=True) if count > 1]
    raise_if_any(f"bench: expected each checkpoint once, got {place} more than once; leave one out" for place in twice)
    titles = distinct_titles(names)
    if teacher is not None and titles[0] != "teacher":
        titles[0] = f"{titles[0]} (teacher)"
    return [
        Candidate(title, place, loading, teacher is not None and number == 0, export)
        for number, (title, (place, export)) in enumerate(zip(titles, found, strict=True))
    ]


def _checked(place: str) -> str:
    """The place of a model, which is there and not damaged. Raises `InputError`."""
    place = resolve_place(place)
    check_inputs(place)
    return place


def distinct_titles(places: Sequence[str]) -> list[str]:
    """The last name of each path, with as many before it as tell it from the others."""
    parts = [Path(place).parts if Path(place).is_absolute() else (short_name(place),) for place in places]
    lengths = [1] * len(parts)

    def titles() -> list[str]:
        return ["/".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]

    for _ in range(max(map(len, parts), default=0)):
        counts = Counter(titles())
        lengths = [
            length + (counts[title] > 1 and length < len(part))
            for title, length, part in zip(titles(), lengths, parts, strict=True)
        ]
    return [title.lstrip("/") for title in titles()]
