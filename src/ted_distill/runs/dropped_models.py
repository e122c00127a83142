"""`keep: best` deletes the models of a finished run, all but RUN/best; what is recorded of it tells a run that is the
same from another one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..identity import Identity, changes, file_fingerprint, function_fingerprint, plain, rows_fingerprint
from ..method.layer_losses import LAYER_LOSSES
from ..output import (
    MANIFEST_NAME,
    DamagedFileError,
    atomic_files,
    check_inputs,
    read_if_sound,
    read_manifest,
    read_sealed,
    remove_leftovers,
    write_sealed,
)
from ..secrets import content_without_secrets
from ..stages.methods import METHODS
from ..stages.stage_identity import WITHOUT_EFFECT, Results, deepspeed_content
from ..tasks import Task
from ..tasks.task_arguments import own_task_of
from ..wording import size
from .further_data import offer_run_data
from .recipe import Recipe
from .recipe_keys import OWNERS, SCORE_ON, SHARED
from .recorded import DATA_FILES, PATHS
from .table import BEST

logger = logging.getLogger(__name__)

KEPT_NAME = "kept.json"
"""What remains of a run whose models were dropped: its identity and its results."""
_WEIGHTS = (".safetensors", ".bin", ".pt")
_NOT_READ = (".md", ".log", ".lock", ".html")
"""Extensions of files in a model's folder that are not part of the model."""
_NOT_COMPARED = {*DATA_FILES, *WITHOUT_EFFECT, "preprocessing_num_workers"}
"""Keys of a recipe that no result depends on, apart from rows, which are compared by content."""


def run_identity(recipe: Recipe, task: Task, further: Mapping[str, Task]) -> Identity:
    """Everything that the results of a run depend on, as far as it can be known without its models.

    Args:
        further: the tasks of `score_on`.
    """
    without = ("output_dir", "keep", "require", "report", "workers", "launcher", "check", *OWNERS)
    content = {key: value for key, value in content_without_secrets(recipe.content).items() if key not in without}
    found = {"recipe": _that_count(content), "data": task.identity["data"], "test": task.test_identity}
    found |= {owner: _model_identity(str(content_of)) for owner, content_of in recipe.models.items()}
    if task.unlabelled_rows is not None:
        found["unlabelled"] = rows_fingerprint(task.unlabelled_rows)
    for name, other in further.items():
        found[f"{SCORE_ON} {name}"] = [other.identity["data"], other.test_identity]
    for loss in sorted({*_values_of(recipe.content, "layer_loss")} & LAYER_LOSSES.keys()):
        if code := function_fingerprint(LAYER_LOSSES[loss]):
            found[f"layer_loss {loss}, code"] = code
    for name, one in (("code", task), *((f"{SCORE_ON} {name}, code", other) for name, other in further.items())):
        if code := one.settings.get("code"):
            found[name] = code
    return plain(found)


def _values_of(content: Mapping[str, Any], key: str) -> Iterator[str]:
    """What a recipe's sections say of a key."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _values_of(value, key)
        elif name == key:
            yield str(value)


def _that_count(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and sections without those that change no result, and without paths: files are compared by content."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key in _NOT_COMPARED:
            continue
        found[key] = deepspeed_content(value) if key == "deepspeed" else value
        if key in PATHS and isinstance(value, str) and (identity := _model_identity(value)) != {"name": value}:
            found[key] = identity
        if key == "task" and (own := own_task_of(str(value))):
            found[key] = own[1]
        if isinstance(value, Mapping):
            found[key] = _that_count(value)
            # Of these sections, one that says nothing is as good as none; that of a fine-tuning asks for one.
            if not found[key] and key in (*SHARED, *METHODS):
                del found[key]
    return found


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
        offer_run_data(task, other)  # as the run did before it scored on them
    wanted = run_identity(recipe, task, further)
    known, named = kept["identity"], kept.get("models", {})
    # Older versions recorded keys that change no result.
    known = {**known, "recipe": _that_count(known["recipe"])}
    # A folder that is not there any more cannot have changed.
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
                "dropped": {stage.name: _weights(stage) for stage in made},
            },
        )
    freed = drop_weights(made)
    remove_leftovers(folder)
    logger.warning(
        "keep: best freed %s, %s are left; the best student is in %s",
        size(freed), size(bytes_below(folder)), folder / BEST,
    )  # fmt: skip


def drop_weights(made: list[Path]) -> int:
    """Delete the weights that `drop_steps` has recorded, where they are still there; returns how many bytes they had.

    A model that was made anew in the same folder since is not touched.
    """
    freed = 0
    for stage in made:
        dropped = (read_sealed(stage.parent / KEPT_NAME) or {}).get("dropped", {}).get(stage.name, {})
        for name, known in _weights(stage).items():
            if dropped.get(name) == known:
                freed += (stage / name).stat().st_size
                (stage / name).unlink()
    return freed


def is_deleted(folder: Path, model: str) -> bool:
    """Whether `keep: best` has deleted the weights of a run's model.

    Args:
        folder: of the run.
        model: a folder or a Hub id.
    """
    place = Path(model)
    was_made = (folder / KEPT_NAME).is_file() and place.is_dir() and folder.resolve() in place.resolve().parents
    return was_made and not _weights(place)


def _weights(folder: Path) -> dict[str, Any]:
    """Files of weights that a manifest names and that are there, with what it says of them: others are not ours."""
    files = (read_if_sound(folder / MANIFEST_NAME) or {}).get("files", {})
    return {name: known for name, known in files.items() if Path(name).suffix in _WEIGHTS and (folder / name).is_file()}


def bytes_below(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
