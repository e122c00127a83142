"""Predictions of finished models, each kept in a folder and made again if the model or the rows have changed.

FOLDER/predictions.json     what `Task.write_predictions` writes, with its other files
FOLDER/probabilities.npy    (N, C) float32 probability of each class, where rows as a whole have classes
FOLDER/confidences.npy      float32 probability of each prediction, where there are such
FOLDER/all_results.json     the scores
FOLDER/stage.json           the model and the rows that they are of, and the sums of all files
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState

from ..errors import InputError
from ..identity import Identity, plain, rows_fingerprint
from ..models.load import LoadedModel, ModelArguments, load_model, offer_to_task
from ..output import (
    MANIFEST_NAME,
    RESULTS_NAME,
    DamagedFileError,
    publication,
    published_damage,
    read_json,
    read_manifest,
    short_name,
    write_json,
)
from ..progress import showing
from ..stages.evaluate import check_validation, predict_split, scoring_device
from ..stages.stage_identity import refuse_foreign
from ..tasks import Task
from ..tasks.base import TEST, Metrics, Split
from ..training.stage_arguments import StageArguments

logger = logging.getLogger(__name__)

_PROBABILITIES, _CONFIDENCES = "probabilities.npy", "confidences.npy"
_STAGE = "predictions"


@dataclass(frozen=True)
class Predictions:
    """What one model predicts for the rows that a run reports."""

    split: str
    """`test` if there are test rows, else `validation`."""
    predictions: Any
    """Decoded, as `Task.score` and `Task.agreement` take them."""
    scores: Metrics
    """In percent, without a prefix."""
    probabilities: np.ndarray | None = None
    """(N, C) float32; None unless rows as a whole have classes."""
    confidences: np.ndarray | None = None
    """(N,) float32, one for each row, or for each word of each row; None where predictions have no probability."""


def scored_split(task: Task) -> str:
    """The split that is reported: test rows if there are some. Raises `InputError` if there is nothing to score on."""
    check_validation(task)
    return TEST if TEST in task.rows else "validation"


def kept_predictions(
    folder: Path, model: str, task: Task, args: StageArguments, loading: ModelArguments
) -> Predictions:
    """Predictions of a finished model on the split that is reported.

    Args:
        folder: holds the predictions, with the identity of the model and the rows.
        args: batch size and precision.
        loading: how the model is loaded.

    Raises:
        InputError: no such model, bad data, or a folder with other content.
    """
    if not task.has_offer:
        offer_to_task(model, task, loading)
    split = scored_split(task)
    loaded = load_model(model, task, loading)
    identity = plain(
        {
            "stage": _STAGE,
            "model": loaded.identity,
            "split": split,
            "task": task.identity["task"],
            "labels": task.label_names,
            "rows": rows_fingerprint(task.rows[split]),
            "precision": args.autocast_type,
        }
    )
    if not _is_kept(folder, identity):
        _make(folder, identity, loaded, task, args)
    return _read(folder, task, split)


def reread_predictions(folder: Path, task: Task) -> Predictions | None:
    """Kept predictions of a model that is not there any more; None if there are none on these rows."""
    split = scored_split(task)
    try:
        found = read_manifest(folder) or {}
        known = found.get("identity", {})
        ours = known.get("stage") == _STAGE and known.get("rows") == rows_fingerprint(task.rows[split])
        whole = ours and known.get("labels") == plain({"labels": task.label_names})["labels"]
        return _read(folder, task, split) if whole and not published_damage(folder, found) else None
    except DamagedFileError:
        return None


def _is_kept(folder: Path, identity: Identity) -> bool:
    """Whether a folder holds these predictions, whole. Raises `InputError` for one with files that are not ours."""
    try:
        found = read_manifest(folder)
    except DamagedFileError as error:
        raise InputError(
            f"{folder}: expected predictions as they were written, got a damaged {MANIFEST_NAME}; delete the folder, "
            "and they are made again"
        ) from error
    if found is None or found.get("identity", {}).get("stage") != _STAGE:
        refuse_foreign(folder)
        return False
    if damage := published_damage(folder, found):
        logger.warning("%s: expected predictions as they were written, got %s; predicting again", folder, damage)
    return not damage and found.get("identity") == identity


def _make(folder: Path, identity: Identity, loaded: LoadedModel, task: Task, args: StageArguments) -> None:
    logger.warning("== predictions of %s on %s rows of %s", loaded.name, identity["split"], task.name)
    rows = task.rows[identity["split"]]
    split = Split(rows, task.encode(rows, loaded.tokenizer))
    device = scoring_device(args.use_cpu)
    with showing(quiet=bool(args.disable_tqdm)):
        logits = predict_split(loaded, task, split, device, args.per_device_eval_batch_size, args.autocast_type)
    if PartialState().is_main_process:
        predictions = task.decode(logits, split)
        arrays = {
            _PROBABILITIES: task.probabilities(logits),
            _CONFIDENCES: task.confidences(logits, predictions, split),
        }
        about = {"stage": _STAGE, "model": short_name(loaded.name), "identity": identity}
        with publication(folder, about) as partial:
            task.write_predictions(predictions, split, partial)
            write_json(partial / RESULTS_NAME, task.score(predictions, rows))
            for name, array in arrays.items():
                if array is not None:
                    np.save(partial / name, array)
    PartialState().wait_for_everyone()


def _read(folder: Path, task: Task, split: str) -> Predictions:
    arrays = {
        name: np.load(folder / name) if (folder / name).is_file() else None for name in (_PROBABILITIES, _CONFIDENCES)
    }
    predictions = task.read_predictions(folder / "predictions.json")
    scores: Metrics = read_json(folder / RESULTS_NAME) or {}
    return Predictions(split, predictions, scores, arrays[_PROBABILITIES], arrays[_CONFIDENCES])
