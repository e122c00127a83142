"""The best student of a run, copied to RUN/best; with `keep: best`, the weights of the others are deleted."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..identity import Identity, changes, file_fingerprint, plain, rows_fingerprint
from ..output import (
    DamagedFileError,
    atomic_files,
    check_inputs,
    damaged_files,
    finish_publication,
    publication,
    published_damage,
    read_manifest,
    read_sealed,
    remove_folder,
    remove_leftovers,
    write_sealed,
)
from ..output.cards import CARD_NAME
from ..secrets import content_without_secrets
from ..stages.stage_identity import Results, refuse_foreign
from ..tasks import Task
from ..training.scores.best_score import deciding_score
from ..training.stage_arguments import StageArguments
from ..wording import size
from .further_data import offer_run_labels
from .gates import read_requirement
from .recipe import OWNERS, SCORE_ON, Recipe
from .recorded import DATA_FILES
from .table import BEST

logger = logging.getLogger(__name__)

KEPT_NAME = "kept.json"
"""What remains of a run whose models were dropped: its identity and its results."""
_WEIGHTS = (".safetensors", ".bin", ".pt")
_NOT_READ = (".md", ".log", ".lock", ".html")
"""Extensions of files in a model's folder that are not part of the model."""
_DERIVED = {"versions", "files", "sum"}


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
    """Raise `InputError` if RUN/best holds files that no run wrote."""
    if _manifest(folder / BEST) is None:
        refuse_foreign(folder / BEST)


def publish_best(folder: Path, method: str) -> Path:
    """Copy a finished student to RUN/best, unless it is there and whole; an edited card stays.

    Raises:
        InputError: see `refuse_foreign_best`.
    """
    source = folder / method
    about = about_best(source, method)
    files = about.pop("files")
    if not is_best(folder, {"files": files}):
        with replaced_best(folder, about) as partial:
            for name in files:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial / name)
    return folder / BEST


def about_best(source: Path, method: str) -> dict[str, Any]:
    """What the manifest of RUN/best says of the student it was made of, and that one's `files`."""
    manifest = read_manifest(source) or {}
    about = {key: value for key, value in manifest.items() if key not in _DERIVED}
    return {**about, "copy_of": method, "files": manifest.get("files", {})}


def is_best(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether RUN/best has a manifest that says this, and is whole."""
    best = folder / BEST
    finish_publication(best)
    remove_leftovers(best)
    found = _manifest(best)
    if found is None or any(found.get(key) != value for key, value in wanted.items()):
        return False
    damage = published_damage(best, found)
    if damage is not None:
        logger.warning("%s: %s since it was written; made again", best, damage)
    return damage is None


@contextmanager
def replaced_best(folder: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder for what becomes RUN/best, in place of what it held before; an edited card stays.

    Raises:
        InputError: see `refuse_foreign_best`.
    """
    refuse_foreign_best(folder)
    best = folder / BEST
    found = _manifest(best)
    card = _edited_card(best, found or {})
    if found is not None and best.exists():
        remove_folder(best)
    with publication(best, about) as partial:
        yield partial
    if card is not None:
        (best / CARD_NAME).write_bytes(card)


def _edited_card(best: Path, manifest: Mapping[str, Any]) -> bytes | None:
    """The card of a folder if somebody wrote it anew: it is theirs."""
    files = {name: known for name, known in manifest.get("files", {}).items() if name == CARD_NAME}
    edited = damaged_files(best, files) and (best / CARD_NAME).is_file()
    return (best / CARD_NAME).read_bytes() if edited else None


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(folder)
    except DamagedFileError:
        return {}


# --- keep: best ---------------------------------------------------------------------------------------------------


def run_identity(recipe: Recipe, task: Task, further: Mapping[str, Task]) -> Identity:
    """Everything that the results of a run depend on, as far as it can be known without its models.

    Args:
        further: the tasks of `score_on`.
    """
    without = ("output_dir", "keep", "require", "report", "workers", "launcher", "check", *OWNERS)
    content = {key: value for key, value in content_without_secrets(recipe.content).items() if key not in without}
    found = {"recipe": _without_files(content), "data": task.identity["data"], "test": task.test_identity}
    found |= {owner: _model_identity(str(content_of)) for owner, content_of in recipe.models.items()}
    if task.unlabelled_rows is not None:
        found["unlabelled"] = rows_fingerprint(task.unlabelled_rows)
    for name, other in further.items():
        found[f"{SCORE_ON} {name}"] = [other.identity["data"], other.test_identity]
    return plain(found)


def _without_files(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and sections without the paths of data: rows are compared by content, not by place."""
    return {
        key: _without_files(value) if isinstance(value, Mapping) else value
        for key, value in content.items()
        if key not in DATA_FILES
    }


def _model_identity(name: str) -> Identity:
    """For a folder, the content of its files; for a Hub id, the id."""
    folder = Path(name)
    if not folder.is_dir():
        return {"name": name}
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.suffix not in _NOT_READ)
    return {"files": {file.name: file_fingerprint(file) for file in files if not file.name.startswith(".")}}


def kept_results(folder: Path, recipe: Recipe, task: Task, further: Mapping[str, Task]) -> dict[str, Results] | None:
    """Results of a run whose models were dropped; None if none were.

    Args:
        further: the tasks of `score_on`.

    Raises:
        InputError: it was another run, the recipe wants its models back, or the best one is damaged or missing.
    """
    best = folder / BEST
    try:
        kept = read_sealed(folder / KEPT_NAME)
    except DamagedFileError as error:
        raise InputError(
            f"output_dir: expected {folder / KEPT_NAME} as it was written, got other content; give another output_dir"
        ) from error
    if kept is None:
        return None
    for other in further.values():
        offer_run_labels(task, other)  # as the run did before it scored on them
    wanted = run_identity(recipe, task, further)
    # A folder that is not there any more cannot have changed.
    known, named = kept["identity"], kept.get("models", {})
    gone = {
        owner: known[owner]
        for owner, name in named.items()
        if "files" in known.get(owner, {}) and wanted.get(owner) == {"name": name}
    }
    differences = changes(known, {**wanted, **gone})
    if recipe.run.keep != "best":
        differences = [*differences, "keep"]
    if differences:
        raise InputError(
            f"output_dir: expected the recipe whose models, all but the best, were dropped in {folder}, got changes "
            f"({'; '.join(differences)}); give another output_dir"
        )
    if read_manifest(best) is None:
        raise InputError(
            f"output_dir: expected the best model of a finished run in {best}, got none; put it back from a copy, or "
            "give another output_dir"
        )
    check_inputs(best, "output_dir")
    logger.warning("== %s is finished; of its models only %s is kept", folder, best)
    return dict(kept["results"])


def drop_steps(
    made: list[Path], recipe: Recipe, task: Task, further: Mapping[str, Task], results: Mapping[str, Results]
) -> None:
    """Delete the weights of a finished run's models, all but RUN/best; results, settings and cards stay.

    Args:
        made: folders of the models that this run made, and that nothing else needs.
        further: the tasks of `score_on`.
    """
    folder = Path(str(recipe.run.output_dir))
    with atomic_files(folder) as partial:
        write_sealed(
            partial / KEPT_NAME,
            {
                "identity": run_identity(recipe, task, further),
                "models": recipe.models,
                "results": plain(dict(results)),
            },
        )
    freed = drop_weights(made)
    remove_leftovers(folder)
    logger.warning(
        "keep: best freed %s, %s are left; the best student is in %s",
        size(freed), size(bytes_below(folder)), folder / BEST,
    )  # fmt: skip


def drop_weights(made: list[Path]) -> int:
    """Delete the weights in these folders; returns how many bytes they had."""
    files = [file for stage in made for file in stage.glob("*") if file.suffix in _WEIGHTS and file.is_file()]
    freed = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    return freed


def is_deleted(folder: Path, model: str) -> bool:
    """Whether `keep: best` has deleted the weights of a run's model.

    Args:
        folder: of the run.
        model: a folder or a Hub id.
    """
    place = Path(model)
    was_made = (folder / KEPT_NAME).is_file() and place.is_dir() and folder.resolve() in place.resolve().parents
    return was_made and not any(file.suffix in _WEIGHTS for file in place.iterdir())


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
