"""Test scores of a finished stage: its weights do not depend on the test rows, so other rows are scored anew."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from ..errors import InputError
from ..models.load import ModelArguments, load_model
from ..output import locked_here, on_main, read_manifest
from ..output.cards import CARD_NAME, is_as_written, replace_card
from ..tasks.base import TEST, Task
from ..training.scores.selection import scored_on
from ..training.shown.model_card import with_scores
from ..training.stage_arguments import StageArguments
from .evaluate import score_models
from .stage_identity import Results

logger = logging.getLogger(__name__)


def with_test_scores(
    results: Results, task: Task, args: StageArguments, model_arguments: ModelArguments | None = None
) -> Results:
    """Results of a finished stage, with scores on the task's test rows; its card has them too, unless it was edited.

    Args:
        args: where the stage is, and how it scores.
        model_arguments: those of the stage; only `trust_remote_code` is for the finished model too.
    """
    found = _scored(results, task, args, model_arguments)
    on_main(lambda: _renew_card(Path(args.output_dir), task, found))
    return found


def _scored(
    results: Results, task: Task, args: StageArguments, model_arguments: ModelArguments | None = None
) -> Results:
    if results.get("scored_on", {}).get(TEST, {}).get("content") == task.test_identity:
        return results
    kept = {name: value for name, value in results.items() if not name.startswith(f"{TEST}_")}
    kept["scored_on"] = {name: split for name, split in kept.get("scored_on", {}).items() if name != TEST}
    if task.test_identity is None:
        return kept
    logger.warning("%s is finished; scoring it on test rows that it was not scored on", args.output_dir)
    trust = ModelArguments.trusting_as(model_arguments)
    loaded = load_model(Path(args.output_dir), task, trust)
    scores = score_models(
        {"model": loaded},
        task,
        args.per_device_eval_batch_size,
        args.autocast_type,
        splits=(TEST,),
        use_cpu=args.use_cpu,
    )
    del scores["parameters"]
    kept["scored_on"][TEST] = scored_on(task)[TEST]
    return {**scores, **kept}


def _renew_card(folder: Path, task: Task, results: Results) -> None:
    """Put new scores into the card of a stage; not into one that somebody edited, nor where nothing can be written."""
    with suppress(OSError, InputError):
        if not is_as_written(folder, read_manifest(folder) or {}):
            return
        card = (folder / CARD_NAME).read_text(encoding="utf-8")
        if (renewed := with_scores(card, task, results)) != card:
            with locked_here(folder):
                replace_card(folder, renewed)
