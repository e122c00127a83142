"""Test scores of a finished stage: its weights do not depend on the test rows, so other rows are scored anew."""

from __future__ import annotations

import logging
from pathlib import Path

from ..models.load import ModelArguments, load_model
from ..tasks.base import TEST, Task
from ..training.scores.selection import scored_on
from ..training.stage_arguments import StageArguments
from .evaluate import score_models
from .stage_identity import Results

logger = logging.getLogger(__name__)


def with_test_scores(
    results: Results, task: Task, args: StageArguments, model_arguments: ModelArguments | None = None
) -> Results:
    """Results of a finished stage, with scores on the task's test rows; the stage's own files stay as they are.

    Args:
        args: where the stage is, and how it scores.
        model_arguments: those of the stage; only `trust_remote_code` is for the finished model too.
    """
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
