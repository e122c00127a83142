"""Stages that several processes share, each of which gives the weights of one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ted_distill import (
    DistillArguments,
    LearnFiltersArguments,
    StageArguments,
    TaskArguments,
    distill,
    finetune,
    learn_filters,
    load_task,
)
from ted_distill.models.scratch import train_tokenizer
from tiny import CLASSES, WORDS, save_tiny, write_reviews, write_text

NAMED: dict[str, Any] = {
    "initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **CLASSES,
}  # fmt: skip
"""No dropout, and the labels of the reviews."""
ROWS = 46
"""Batches of 8 leave 6: two processes of 4 have 4 and 2 of them, four of 2 have 2, 2, 2 and none."""

Stage = Callable[[Path, StageArguments], object]


def make(folder: Path) -> Path:
    """Rows, a teacher and a student."""
    write_reviews(folder, ROWS, "train")
    write_reviews(folder, 11, "validation")
    write_text(folder, ROWS, "text")
    for name, width in (("teacher", 16), ("student", 8)):
        save_tiny(folder / name, AutoModelForSequenceClassification, blocks=2, width=width, seed=width, **NAMED)
    tokenizer = train_tokenizer(iter([WORDS]), 280, 64, [], masked=True)
    save_tiny(folder / "other_words", AutoModelForSequenceClassification, vocab_size=len(tokenizer), **NAMED)
    tokenizer.save_pretrained(folder / "other_words")
    save_tiny(
        folder / "decoder",
        AutoModelForCausalLM,
        "gpt2",
        initializer_range=0.2,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )
    return folder


def reviews(folder: Path) -> Any:
    files = {"train_file": str(folder / "train.jsonl"), "validation_file": str(folder / "validation.jsonl")}
    return load_task(TaskArguments("sequence_classification", **files))


def stream(folder: Path) -> Any:
    files = {"train_file": str(folder / "text.txt"), "validation_file": str(folder / "text.txt")}
    return load_task(TaskArguments("causal_lm", **files, streaming=True, max_seq_length=8, shuffle_buffer=4))


def fine_tuned(folder: Path, args: StageArguments) -> object:
    return finetune(folder / "student", reviews(folder), args)


def with_filters(folder: Path, args: StageArguments) -> object:
    return learn_filters(folder / "teacher", reviews(folder), args, LearnFiltersArguments(filter_output_dim=8))


def distilled(folder: Path, args: StageArguments) -> object:
    return distill(
        folder / "teacher", folder / "student", reviews(folder), args, DistillArguments("lwd", mse_alpha=1.0)
    )


def distilled_without_some_labels(folder: Path, args: StageArguments) -> object:
    task = reviews(folder)
    task.arguments.unlabelled_file = str(folder / "text.txt")
    return distill(folder / "teacher", folder / "student", task, args, DistillArguments("kd", unlabelled_share=0.5))


def distilled_to_other_words(folder: Path, args: StageArguments) -> object:
    return distill(folder / "teacher", folder / "other_words", reviews(folder), args, DistillArguments("kd"))


def streamed(folder: Path, args: StageArguments) -> object:
    return finetune(folder / "decoder", stream(folder), args)


def arguments(folder: Path, size: int, accumulated: int = 1, **changes: Any) -> StageArguments:
    """Plain gradient descent: Adam would hide that a loss is some times too large."""
    found = {
        "per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "num_train_epochs": 2,
        "optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "disable_tqdm": True, "use_cpu": True,
        "logging_steps": 1, **changes,
    }  # fmt: skip
    return StageArguments(str(folder), **found)


SHORT: dict[str, Any] = {"max_steps": 7, "num_train_epochs": 1, "eval_strategy": "no", "save_strategy": "no"}
CASES: dict[str, tuple[Stage, int, dict[str, Any]]] = {
    "by_length": (fine_tuned, 1, {}),
    "random_accumulated": (fine_tuned, 2, {"train_sampling_strategy": "random"}),
    "in_order": (fine_tuned, 1, {"train_sampling_strategy": "sequential", **SHORT}),
    "dispatched": (fine_tuned, 1, {"accelerator_config": {"dispatch_batches": True}, **SHORT}),
    "dropping_the_last": (fine_tuned, 1, {"dataloader_drop_last": True, **SHORT}),
    "filters": (with_filters, 1, SHORT),
    "filters_accumulated": (with_filters, 2, {"train_sampling_strategy": "random", **SHORT}),
    "distilled": (distilled, 1, {}),
    "distilled_accumulated": (distilled, 2, SHORT),
    "some_labels_accumulated": (distilled_without_some_labels, 2, SHORT),
    "other_words_accumulated": (distilled_to_other_words, 2, SHORT),
    # The stream has 34 blocks: the fifth update has 2, which one process takes, and the sixth begins it anew.
    "streamed": (streamed, 1, SHORT),
    "streamed_accumulated": (streamed, 2, SHORT),
}  # fmt: skip
"""Name -> the stage, batches accumulated, and what else is set."""


# Cases for processes that split weights, or what an optimizer keeps, between them.
ADAM: dict[str, Any] = {
    "optim": "adamw_torch", "adam_epsilon": 1e-3, "learning_rate": 1e-2, "max_grad_norm": 0.1,
    "per_device_eval_batch_size": 4,
}  # fmt: skip
"""An optimizer with a state, gradients that are cut to a length, and three batches to score on.

The last digits of gradients near 0 would be whole steps without such an epsilon.
"""


def with_learnt_filters(folder: Path, args: StageArguments) -> object:
    """TED on the filters that `learnt` has left; the student's are fitted by least squares."""
    return distill(folder / "learnt", folder / "student", reviews(folder), args, DistillArguments("ted", mse_alpha=1.0))


def with_relations(folder: Path, args: StageArguments) -> object:
    return distill(folder / "teacher", folder / "student", reviews(folder), args, DistillArguments("attention"))


def normalized(folder: Path, args: StageArguments) -> object:
    own = DistillArguments("lwd", mse_alpha=1.0, layer_loss="normalized_mse")
    return distill(folder / "teacher", folder / "student", reviews(folder), args, own)


OWN: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "ted": (with_learnt_filters, 1, {}),
    "ted_adam_accumulated": (with_learnt_filters, 2, ADAM),
    "by_length_adam": (CASES["by_length"][0], 1, ADAM),
    "filters_adam": (with_filters, 1, ADAM),
    "without_a_cache": (distilled, 1, {"cache_limit": 0}),
    "filters_without_a_cache": (with_filters, 1, {"cache_limit": 0, **SHORT}),
    "relations": (with_relations, 1, SHORT),
    "normalized": (normalized, 1, SHORT),
    "checkpointed_activations": (distilled, 1, {"activation_checkpointing": True, **SHORT}),
    "scored_first": (CASES["by_length"][0], 1, {"eval_on_start": True}),
}
ALL = CASES | OWN
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4}


def trained_alone(made: Path) -> Callable[[str], Path]:
    """Name of a case -> its folder, trained once, in one process whose batches hold all rows of an update."""

    @cache
    def trained(name: str) -> Path:
        stage, _, changes = ALL[name]
        if name.startswith("ted") and not (made / "learnt").exists():
            with_filters(made, arguments(made / "learnt", 8))
        stage(made, arguments(made / "alone" / name, 8, **changes))
        return made / "alone" / name

    return trained


def weights(folder: Path, files: str) -> dict[str, torch.Tensor]:
    return {
        f"{file.name}/{name}": tensor for file in sorted(folder.glob(files)) for name, tensor in load_file(file).items()
    }


def apart(one: Path, other: Path, files: str = "*.safetensors") -> float:
    """The largest difference of two stages' weights, relative to a tensor's largest one where that is above 1."""
    first, second = weights(one, files), weights(other, files)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / first[name].abs().max().clamp(min=1)) for name in first)


def scores(folder: Path) -> dict[str, Any]:
    """All results but the time and the names of the data."""
    results = json.loads((folder / "all_results.json").read_text())
    return {name: value for name, value in results.items() if name not in ("seconds", "scored_on")}


def assert_like(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same results; floating-point numbers but for their last digits."""
    assert found == {
        name: pytest.approx(value, rel=1e-5) if isinstance(value, float) else value for name, value in expected.items()
    }


def moved(name: str, made: Path, alone: Path) -> float:
    """How far the weights of a case have moved."""
    begun = {"streamed": "decoder", "other": "other_words"}.get(name.partition("_")[0], "student")
    return apart(made / begun, alone, "model.safetensors")
