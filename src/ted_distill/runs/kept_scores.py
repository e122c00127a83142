"""Scores of finished models, each kept in a file and computed again if anything that affects them has changed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..identity import plain
from ..models.load import ModelArguments, load_model, offer_to_task
from ..output import DamagedFileError, atomic_files, read_sealed, short_name, write_sealed
from ..stages.evaluate import score_models
from ..tasks import Task
from ..tasks.base import Metrics
from ..training.stage_arguments import StageArguments

logger = logging.getLogger(__name__)


def kept_scores(file: Path, model: str, task: Task, args: StageArguments, model_arguments: ModelArguments) -> Metrics:
    """Scores of a model on a task, and its `parameters`.

    Args:
        file: holds the scores and the identity of the model and the data.
        args: batch size and precision.

    Raises:
        InputError: no such model, or bad data.
    """
    if not task.has_offer:
        offer_to_task(model, task, model_arguments)
    loaded = load_model(model, task, model_arguments)
    data = {**task.identity, "test": task.test_identity}
    identity = plain({**data, "model": loaded.identity, "precision": args.autocast_type})
    known = _read(file)
    if known.get("identity") != identity:
        logger.warning("== scoring %s on %s", model, task.name)
        scores = score_models(
            {"model": loaded}, task, args.per_device_eval_batch_size, args.autocast_type, use_cpu=args.use_cpu
        )
        known = {"identity": identity, "model": short_name(model), "scores": scores}
        if PartialState().is_main_process:
            with atomic_files(file.parent) as partial:
                write_sealed(partial / file.name, known)
        PartialState().wait_for_everyone()
    return dict(known["scores"])


def _read(file: Path) -> dict[str, Any]:
    """What a file holds; nothing if there is none, or a damaged one."""
    try:
        return read_sealed(file) or {}
    except DamagedFileError:
        logger.warning("%s: expected it as it was written, got other content; scoring again", file)
        return {}
