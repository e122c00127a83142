"""Scores of finished models, each kept in a file and computed again if anything that affects them has changed."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import PartialState

from ..identity import plain
from ..models.load import ModelArguments, load_model
from ..output import atomic_files, read_json, write_json
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
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "no"
    loaded = load_model(model, task, model_arguments)
    data = {**task.identity, "test": task.test_identity}
    identity = plain({**data, "model": loaded.identity, "precision": precision})
    known = read_json(file)
    if not isinstance(known, dict) or known.get("identity") != identity:
        logger.warning("== scoring %s on %s", model, task.name)
        scores = score_models({"model": loaded}, task, args.per_device_eval_batch_size, precision)
        known = {"identity": identity, "model": model, "scores": scores}
        if PartialState().is_main_process:
            with atomic_files(file.parent) as partial:
                write_json(partial / file.name, known)
        PartialState().wait_for_everyone()
    return dict(known["scores"])
