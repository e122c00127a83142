"""`ted demo`: write the data and a teacher, then run the demo's recipe like any other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ..output import (
    check_inputs,
    check_writable,
    locked_here,
    on_main,
    publication,
    read_manifest,
)
from ..runs.recipe import read_recipe
from ..runs.run import run
from ..stages.stage_identity import Results, refuse_foreign
from .dataset import write_dataset
from .small_models import write_teacher

logger = logging.getLogger(__name__)

RECIPE = Path(__file__).with_name("recipe.yaml")
DEFAULT_FOLDER = "runs/demo"
NUM_TRAIN = 12_000
NUM_VALIDATION = 900


def run_demo(
    folder: str | Path = DEFAULT_FOLDER,
    overrides: list[str] | None = None,
    before_dropping: Callable[[Path], object] = lambda folder: None,
) -> Results:
    """Run the whole method on generated data: see `recipe.yaml` beside this file.

    Args:
        folder: that of the run; stages that are finished there are skipped.
        overrides: `key=value` changes to the recipe.
        before_dropping: see `runs.run.run`.

    Returns:
        Results of teacher, student before training and each method, by name.

    Raises:
        InputError: the folder cannot be written, or a key of the recipe is unknown.
    """
    folder = Path(folder)
    check_writable(folder)
    paths = _write_inputs(folder / "inputs")
    named = [f"{key}={path}" for key, path in paths.items()]
    recipe = read_recipe(RECIPE, [*named, f"output_dir={folder}", *(overrides or [])])
    return run(recipe, before_dropping=before_dropping)


def _write_inputs(folder: Path) -> dict[str, Path]:
    """The data set and a teacher of random weights, written unless they are there already."""
    paths = {
        "train_file": folder / "train.json",
        "validation_file": folder / "validation.json",
        "teacher": folder / "teacher",
    }
    on_main(lambda: _generate(folder))
    return paths


def _generate(folder: Path) -> None:
    check_inputs(folder, "demo")
    if read_manifest(folder) is not None:
        return
    refuse_foreign(folder)
    with locked_here(folder):
        logger.warning("== generating data and an untrained teacher -> %s", folder)
        with publication(folder, {"stage": "demo inputs"}) as partial:
            files = write_dataset(partial, num_train=NUM_TRAIN, num_validation=NUM_VALIDATION)
            write_teacher(partial / "teacher", files)
