"""Score any checkpoint on any task, and measure how often it agrees with a teacher."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedTokenizerBase

from ..entries import entry
from ..errors import InputError, collect, raise_if_any, shown
from ..fast import precision
from ..models.given import Model, as_name
from ..models.load import LoadedModel, ModelArguments, load_model, offer_to_task
from ..models.tokenizers import choose_tokenizers
from ..output import (
    RESULTS_NAME,
    SETTINGS_NAME,
    check_writable,
    command,
    locked,
    publication,
    read_if_sound,
    refuse_busy,
    write_json,
    write_sealed,
)
from ..progress import showing
from ..tasks.base import TEST, Metrics, Split, Task
from ..training.scores import evaluation
from ..training.scores.selection import scored_on
from .autocast import AUTOCAST, fitting_autocast
from .stage_identity import refuse_foreign


@entry
def evaluate(
    model_name_or_path: Model,
    task: Task,
    *,
    teacher_name_or_path: Model | None = None,
    output_dir: str | Path | None = None,
    batch_size: int = 32,
    mixed_precision: str | None = None,
    model_arguments: ModelArguments | None = None,
    use_cpu: bool = False,
) -> Metrics:
    """Score a fine-tuned checkpoint on the task's validation and test data.

    Args:
        model_name_or_path: folder, Hub id or (model, tokenizer).
        teacher_name_or_path: also report how often this model makes the same prediction (`agreement...`).
        output_dir: folder for `all_results.json` and the predictions, if they should be written.
        mixed_precision: `no`, `bf16` or `fp16` [as in the stages: bf16 if the machine multiplies in bf16].
        use_cpu: score on the CPU although there is a GPU.

    Returns:
        Scores, in percent where that makes sense (perplexity, loss and mse are not), and `parameters`, a count.

    Raises:
        InputError: with all problems.
    """
    model_name_or_path = as_name(model_name_or_path)
    teacher_name_or_path = None if teacher_name_or_path is None else as_name(teacher_name_or_path)
    models: dict[str, LoadedModel] = {}
    problems: list[str] = []
    device = scoring_device(use_cpu)
    if mixed_precision is None:
        mixed_precision = "bf16" if precision.does_bfloat16_well(device) else "no"
    if mixed_precision not in AUTOCAST:
        problems.append(f"mixed_precision: expected one of {', '.join(AUTOCAST)}, got {shown(mixed_precision)}")
    if mixed_precision == "fp16" and device.type == "cpu":
        problems.append("fp16: expected a GPU, got a CPU, which scores in bfloat16 or float32; give bf16, or neither")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        problems.append(f"batch_size: expected a whole number of at least 1, got {shown(batch_size)}")
    with collect(problems):
        if output_dir is not None:
            _check_folder(Path(output_dir))
    offer_to_task(model_name_or_path, task, model_arguments)
    with collect(problems):
        check_validation(task)
    raise_if_any(problems)
    with collect(problems):
        models["model"] = load_model(model_name_or_path, task, model_arguments)
    with collect(problems):
        if teacher_name_or_path is not None:
            trust = ModelArguments.trusting_as(model_arguments)
            models["teacher"] = load_model(teacher_name_or_path, task, trust)
    raise_if_any(problems)
    with showing():
        return score_models(models, task, batch_size, mixed_precision, output_dir, use_cpu=use_cpu)


def scoring_device(use_cpu: bool) -> torch.device:
    """The device to score on. The first call of a process decides which one its processes talk over."""
    state = PartialState(cpu=use_cpu)
    return torch.device("cpu") if use_cpu else state.device


def score_models(
    models: dict[str, LoadedModel],
    task: Task,
    batch_size: int = 32,
    mixed_precision: str = "no",
    output_dir: str | Path | None = None,
    splits: Collection[str] | None = None,
    use_cpu: bool = False,
) -> Metrics:
    """Scores of `model`, and how often it agrees with `teacher`, if one is given; see `evaluate`.

    Args:
        splits: the splits to score on [all but `train`].
    """
    tokenizers = _tokenizers(models, task)
    wanted = [name for name in task.rows if name != "train" and (splits is None or name in splits)]
    encoded = {tokenizer: _encoded(task, wanted, tokenizer) for tokenizer in set(tokenizers.values())}
    device = scoring_device(use_cpu)
    metrics: Metrics = {"parameters": models["model"].model.num_parameters()}
    with ExitStack() as stack:
        written = None if output_dir is None else _scores_folder(Path(output_dir), stack)
        for name, split in encoded[tokenizers["model"]].items():
            predictions = {}
            for owner, tokenizer in tokenizers.items():
                features = encoded[tokenizer][name]
                logits = predict_split(models[owner], task, features, device, batch_size, mixed_precision, tokenizer)
                predictions[owner] = task.decode(logits, features)
            scores = task.score(predictions["model"], split.rows)
            if "teacher" in predictions:
                scores |= task.agreement(predictions["model"], predictions["teacher"])
            metrics |= {evaluation.prefixed(name, key): value for key, value in scores.items()}
            if written is not None:
                folder = written if name == "validation" else written / name
                folder.mkdir(exist_ok=True)
                task.write_predictions(predictions["model"], split, folder)
        if written is not None:
            write_json(written / RESULTS_NAME, {**metrics, "scored_on": scored_on(task)})
    return metrics


def _tokenizers(models: dict[str, LoadedModel], task: Task) -> dict[str, PreTrainedTokenizerBase]:
    """Each model's own where whole rows are compared; else one for both. Raises `InputError` if there is none."""
    if task.whole_row_logits or "teacher" not in models:
        return {owner: loaded.tokenizer for owner, loaded in models.items()}
    return dict.fromkeys(models, choose_tokenizers(models["teacher"], models["model"], task).student)


def _encoded(task: Task, splits: Collection[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, Split]:
    """Rows and features of some splits."""
    return {name: Split(task.rows[name], task.encode(task.rows[name], tokenizer)) for name in splits}


def _scores_folder(folder: Path, stack: ExitStack) -> Path | None:
    """Where to write files that are published in `folder` when the stack closes; None if another process writes."""
    stack.enter_context(locked(folder))
    if not PartialState().is_main_process:
        return None
    written = stack.enter_context(publication(folder, {"stage": "evaluate", "command": command()}))
    write_sealed(written / SETTINGS_NAME, {"identity": {"stage": "evaluate"}})
    return written


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but the scores of an earlier call. Raises `InputError`."""
    check_writable(folder)
    refuse_busy(folder)
    identity = read_if_sound(folder / SETTINGS_NAME).get("identity")
    if isinstance(identity, dict) and identity.get("stage") == "evaluate":
        return
    if identity is not None:
        raise InputError(
            f"output_dir: expected a folder for scores, got {folder}, which holds a stage; give another output_dir"
        )
    refuse_foreign(folder)


def predict_split(
    loaded: LoadedModel,
    task: Task,
    split: Split,
    device: torch.device,
    batch_size: int,
    mixed_precision: str,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[np.ndarray]:
    """What `Task.decode` decodes: the results of `Task.scored` for each feature of a split.

    Args:
        tokenizer: the one that made the features [the model's].
    """
    model = loaded.as_module(task).eval().to(device)
    # Where it is already: otherwise it would go there and back for the trial alone.
    mixed_precision = fitting_autocast(loaded, task, device, mixed_precision)
    return evaluation.predict(
        lambda batch: task.scored(model(batch).logits, batch),
        task,
        split,
        tokenizer or loaded.tokenizer,
        device,
        batch_size,
        scoring_autocast(device, mixed_precision),
    )


def scoring_autocast(device: torch.device, mixed_precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """What makes the context that a model is scored in: not accelerate's, which allows only one precision per process,
    and a stage may have run in another.
    """
    dtype = AUTOCAST[mixed_precision]
    return partial(torch.autocast, device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def score_predictions(predictions_file: str | Path, task: Task, split: str | None = None) -> Metrics:
    """Score predictions made elsewhere, such as an official submission, without a model.

    Args:
        split: the rows that they are of [the only ones besides training rows]; scores of others than `validation` have
            its name.

    Raises:
        InputError: no such file, not the task's format, rows without a prediction, or rows of several splits.
    """
    file = Path(predictions_file)
    if file.is_file():
        _offer_predicted(task, file)
    check_validation(task)
    if not file.is_file():
        raise InputError(f"predictions_file: {file} does not exist; give the file to score")
    splits = [name for name in task.rows if name != "train"]
    if (split is None and len(splits) > 1) or split not in (None, *splits):
        raise InputError(
            f"split: expected one of {', '.join(splits)}, the rows that {file} is of, got {shown(split)}; set --split"
        )
    split = split or splits[0]
    scores = task.score(task.read_predictions(file), task.rows[split])
    return {evaluation.prefixed(split, name): value for name, value in scores.items()}


def _offer_predicted(task: Task, file: Path) -> None:
    """Let a label be predicted that no row has, which is then wrong: not if the data declare their labels, or if the
    file has none of them, as then its labels are called otherwise.
    """
    predicted, own = task.predicted_names(file), list[str]()
    with suppress(InputError):  # such as a single class
        own = task.label_names or []
    if not task.declares_labels and (not own or not {*own}.isdisjoint(predicted)):
        task.offer_labels([[*own, *(name for name in predicted if name not in own)]], "the predictions file")


def check_validation(task: Task) -> None:
    """Refuse a task without rows to score on.

    Raises:
        InputError: bad rows, or no rows.
    """
    if "validation" not in task.rows and TEST not in task.rows:
        raise InputError("data: expected rows to score on, got none; give --validation_file or --test_file")
