"""Score any checkpoint on any task, and how far it agrees with a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..errors import InputError, collect, raise_if_any
from ..models.load import LoadedModel, ModelArguments, load_model
from ..models.tokenizers import shared_tokenizer
from ..output import RESULTS_NAME, check_writable, whole_files, write_json
from ..tasks.base import Metrics, Split, Task
from ..training import evaluation


def evaluate(
    model_name_or_path: str | Path,
    task: Task,
    *,
    teacher_name_or_path: str | Path | None = None,
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    mixed_precision: str = "no",
    model_arguments: ModelArguments | None = None,
) -> Metrics:
    """Score a fine-tuned checkpoint on the task's validation data.

    Args:
        teacher_name_or_path: also report how often this model says the same (`agreement...`).
        output_dir: where `all_results.json` and the predictions go, if anywhere.
        mixed_precision: `no`, `bf16` or `fp16`.

    Returns:
        Scores in percent.

    Raises:
        InputError: with all problems.
    """
    models: dict[str, LoadedModel] = {}
    problems: list[str] = []
    with collect(problems):
        if output_dir is not None:
            check_writable(Path(output_dir))
    with collect(problems):
        check_validation(task)
    raise_if_any(problems)
    with collect(problems):
        models["model"] = load_model(model_name_or_path, task, model_arguments)
    with collect(problems):
        if teacher_name_or_path is not None:
            models["teacher"] = load_model(teacher_name_or_path, task)
    raise_if_any(problems)
    tokenizer = models["model"].tokenizer
    if "teacher" in models:
        tokenizer = shared_tokenizer(models["teacher"], models["model"])
    splits = {name: Split(rows, task.encode(rows, tokenizer)) for name, rows in task.rows.items() if name != "train"}
    accelerator = Accelerator(mixed_precision=mixed_precision)
    metrics: Metrics = {"parameters": models["model"].model.num_parameters()}
    for name, split in splits.items():
        predictions = {
            owner: _predictions(loaded, task, split, tokenizer, accelerator, batch_size)
            for owner, loaded in models.items()
        }
        scores = task.score(predictions["model"], split.rows)
        if "teacher" in predictions:
            scores |= task.agreement(predictions["model"], predictions["teacher"])
        metrics |= {evaluation.prefixed(name, key): value for key, value in scores.items()}
        if output_dir is not None and accelerator.is_main_process:
            folder = Path(output_dir) if name == "validation" else Path(output_dir) / name
            with whole_files(folder) as partial:
                task.write_predictions(predictions["model"], split, partial)
    if output_dir is not None and accelerator.is_main_process:
        with whole_files(Path(output_dir)) as partial:
            write_json(partial / RESULTS_NAME, metrics)
    return metrics


def _predictions(
    loaded: LoadedModel, task: Task, split: Split, tokenizer: Any, accelerator: Accelerator, batch_size: int
) -> Any:
    model = loaded.with_filters(None, task).eval().to(accelerator.device)
    logits = evaluation.predict(
        lambda batch: task.scored(model(batch).logits, batch),
        task, split, tokenizer, accelerator.device, batch_size, accelerator.autocast,
    )  # fmt: skip
    return task.decode(logits, split)


def score_predictions(predictions_file: str | Path, task: Task) -> Metrics:
    """Score predictions made elsewhere, such as an official submission, without a model.

    Raises:
        InputError: no such file, not the task's format, or rows without a prediction.
    """
    check_validation(task)
    file = Path(predictions_file)
    if not file.is_file():
        raise InputError(f"predictions_file: {file} does not exist; give the file to score")
    return task.score(task.read_predictions(file), task.rows["validation"])


def check_validation(task: Task) -> None:
    """Refuse a task without rows to score on.

    Raises:
        InputError: bad rows or none.
    """
    if "validation" not in task.rows:
        raise InputError("data: nothing to score on; give --validation_file")
