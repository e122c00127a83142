"""The best student of a run, copied to RUN/best."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..output import (
    MANIFEST_NAME,
    DamagedFileError,
    finish_publication,
    publication,
    published_damage,
    read_if_sound,
    read_manifest,
    remove_leftovers,
)
from ..output.cards import CARD_NAME, is_as_written, replace_card
from ..stages.stage_identity import Results, refuse_foreign
from ..tasks import Task
from ..training.scores.best_score import deciding_score
from ..training.stage_arguments import StageArguments
from .gates import read_requirement
from .recipe import Recipe
from .table import BEST

logger = logging.getLogger(__name__)

_DERIVED = {"versions", "files", "sum"}
_OWN_CARD = "edited_card"
"""Key of the manifest of RUN/best: its card was written by somebody else, and is theirs in every later one too."""


def best_method(results: Mapping[str, Results], arguments: Mapping[str, StageArguments], task: Task) -> str | None:
    """The method whose student has the best score to choose by (never one on test rows).

    Of equals the one with the better last evaluation, which was not chosen; of equals in that too, the later one.

    Args:
        arguments: those of each method; the score that all of them choose weights by decides here too.
    """
    scored = [method for method in arguments if task.metric in results[method]]
    named = {deciding_score(arguments[method], task, results[method]) for method in scored}
    usual = task.metric, -1 if task.metric in task.lower_is_better else 1
    metric, sign = named.pop() if len(named) == 1 else usual
    last = f"last_{metric}"

    def order(method: str) -> tuple[float, float]:
        found = results[method]
        return sign * found[metric], sign * found[last if last in found else metric]

    return max(reversed(scored), key=order, default=None)


def best_problems(recipe: Recipe, task: Task) -> list[str]:
    """Keys of a recipe that need a best student, where none can be chosen."""
    wanted = {
        "keep: best": recipe.run.keep == "best",
        "student_trim": recipe.run.student_trim is not None,
        "require": any(model == BEST for text in recipe.run.require or [] for model, _ in read_requirement(text).names),
    }
    if recipe.run.methods and "validation" in task.rows:
        return []
    why = "validation rows to choose it on" if recipe.run.methods else "at least one method in `methods`"
    return [
        f"{name}: expected a best student, which needs {why}, got none; add them or leave it out"
        for name, asked in wanted.items()
        if asked
    ]


def refuse_foreign_best(folder: Path) -> None:
    """Refuse a RUN/best that no run wrote, or that does not say what a run wrote there.

    Raises:
        InputError: there is no manifest beside its files, or a damaged one.
    """
    best = folder / BEST
    try:
        found = read_manifest(best)
    except DamagedFileError as error:
        raise InputError(
            f"output_dir: expected {best} as it was written, got a damaged {MANIFEST_NAME}; delete the folder, and the "
            "same command makes it again"
        ) from error
    if found is None:
        refuse_foreign(best)


def publish_best(folder: Path, method: str) -> Path:
    """Copy a finished student to RUN/best, unless it is there and whole; an edited card and files of others stay.

    Raises:
        InputError: see `refuse_foreign_best`.
    """
    source = folder / method
    about = about_best(source, method)
    files = about.pop("files")
    best = folder / BEST
    if not is_best(folder, {}, files):
        with replaced_best(folder, about) as partial:
            for name in files:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial / name)
    elif _edited_card(best, found := read_manifest(best) or {}) is None and _card_sum(found) != files.get(CARD_NAME):
        # The student has been scored on other test rows since.
        replace_card(best, (source / CARD_NAME).read_text(encoding="utf-8"))
    return best


def about_best(source: Path, method: str) -> dict[str, Any]:
    """What the manifest of RUN/best says of the student it was made of, and that one's `files`."""
    manifest = read_manifest(source) or {}
    about = {key: value for key, value in manifest.items() if key not in _DERIVED}
    return {**about, "copy_of": method, "files": manifest.get("files", {})}


def without_card(files: Mapping[str, Any]) -> dict[str, Any]:
    """Files of a manifest that are part of the model: the card may be edited, and `ted bench --cards` does."""
    return {name: known for name, known in files.items() if name != CARD_NAME}


def is_best(folder: Path, wanted: Mapping[str, Any], files: Mapping[str, Any] | None = None) -> bool:
    """Whether RUN/best has a manifest that says this, and is whole.

    Args:
        files: names, sizes and sums that the manifest has to name, apart from that of the card [any].
    """
    best = folder / BEST
    finish_publication(best)
    remove_leftovers(best)
    found = read_if_sound(best / MANIFEST_NAME)
    if not found or any(found.get(key) != value for key, value in wanted.items()):
        return False
    if files is not None and without_card(found.get("files", {})) != without_card(files):
        return False
    damage = published_damage(best, found)
    if damage is not None:
        logger.warning("%s: %s since it was written; made again", best, damage)
    return damage is None


@contextmanager
def replaced_best(folder: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder for what becomes RUN/best, in place of what a run wrote there before.

    An edited card stays, and so do files that no run wrote. If something goes wrong, RUN/best is as it was.

    Raises:
        InputError: see `refuse_foreign_best`.
    """
    refuse_foreign_best(folder)
    best = folder / BEST
    card = _edited_card(best, read_manifest(best) or {})
    with publication(best, about if card is None else {**about, _OWN_CARD: True}) as partial:
        yield partial
        if card is not None:
            (partial / CARD_NAME).write_bytes(card)


def _card_sum(manifest: Mapping[str, Any]) -> Any:
    return manifest.get("files", {}).get(CARD_NAME)


def _edited_card(best: Path, manifest: Mapping[str, Any]) -> bytes | None:
    """The card of a folder if somebody wrote it anew: it is theirs."""
    is_theirs = manifest.get(_OWN_CARD) or not is_as_written(best, manifest)
    return (best / CARD_NAME).read_bytes() if is_theirs and (best / CARD_NAME).is_file() else None
