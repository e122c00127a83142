"""One small run of each kind, all stages and methods through the public names.

`make test-oldest` runs these with the lowest versions that pyproject.toml promises. They are ordinary tests of the
newest versions too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from datasets import Dataset
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ted_distill import (
    DistillArguments,
    LearnFiltersArguments,
    StageArguments,
    TaskArguments,
    distill,
    evaluate,
    finetune,
    learn_filters,
    load_task,
    read_recipe,
    run,
)
from tiny import save_tiny, write_entities, write_questions, write_reviews, write_text

pytestmark = pytest.mark.usefixtures("own_cache")


class Kind(NamedTuple):
    """What is trained on what."""

    task: str
    family: str
    start: Any
    """Class of the models that are fine-tuned."""
    result: Any
    """Class that loads what comes out."""
    write: Callable[[Path], Path]
    options: dict[str, Any] = {}


KINDS = {
    "a BERT classifier": Kind(
        "sequence_classification", "bert", AutoModel, AutoModelForSequenceClassification, write_reviews
    ),
    "a DeBERTa question answerer": Kind(
        "squad_v2", "deberta-v2", AutoModel, AutoModelForQuestionAnswering, write_questions,
        {"max_seq_length": 48, "doc_stride": 8},
    ),
    "a BERT tagger": Kind("token_classification", "bert", AutoModel, AutoModelForTokenClassification, write_entities),
    "a GPT-2 language model": Kind(
        "causal_lm", "gpt2", AutoModelForCausalLM, AutoModelForCausalLM, write_text, {"max_seq_length": 16}
    ),
}  # fmt: skip


def _arguments(folder: Path) -> StageArguments:
    """Two epochs with a checkpoint and scores after each."""
    return StageArguments(
        str(folder), num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-3, disable_tqdm=True,
        report_to="none", use_cpu=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_all_stages_and_methods_work(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    file = str(kind.write(tmp_path))
    task = load_task(TaskArguments(kind.task, train_file=file, validation_file=file, **kind.options))
    results: dict[str, dict[str, Any]] = {}
    for owner, blocks, interval in (("teacher", 4, 2), ("student", 2, 1)):
        raw = save_tiny(tmp_path / f"raw_{owner}", kind.start, kind.family, blocks=blocks, seed=blocks)
        results[owner] = finetune(raw, task, _arguments(tmp_path / owner))
        filters = f"{owner}_filters"
        results[filters] = learn_filters(
            tmp_path / owner, task, _arguments(tmp_path / filters), LearnFiltersArguments(interval)
        )
    before = load_file(tmp_path / "student" / "model.safetensors")
    for method in ("kd", "lwd", "ted"):
        results[method] = distill(
            tmp_path / "teacher_filters",
            tmp_path / "student_filters",
            task,
            _arguments(tmp_path / method),
            DistillArguments(method),
        )
        model, info = kind.result.from_pretrained(tmp_path / method, output_loading_info=True)
        assert not any(info.values()), info
        assert model.config.num_hidden_layers == 2
        after = load_file(tmp_path / method / "model.safetensors")
        assert after.keys() == before.keys()
        assert any(not after[weight].equal(before[weight]) for weight in after)
        assert evaluate(tmp_path / method, task)[task.metric] == pytest.approx(results[method][task.metric])
    for stage, found in results.items():
        assert found["steps"] > 2, stage
        assert all(math.isfinite(value) for value in found.values() if isinstance(value, float)), (stage, found)


@pytest.mark.parametrize(("task", "metric"), [("regression", "pearson"), ("multi_label_classification", "f1_micro")])
def test_a_recipe_runs_on_parquet_files(task: str, metric: str, tmp_path: Path) -> None:
    reviews = [json.loads(line) for line in write_reviews(tmp_path).read_text(encoding="utf-8").splitlines()]
    labels = [
        float(len(row["text"])) if task == "regression" else [row["label"], "very"][: 1 + ("very" in row["text"])]
        for row in reviews
    ]
    file = tmp_path / "rows.parquet"
    Dataset.from_dict({"text": [row["text"] for row in reviews], "label": labels}).to_parquet(file)
    for owner, blocks in (("teacher", 4), ("student", 2)):
        save_tiny(tmp_path / owner, AutoModel, blocks=blocks, seed=blocks)
    recipe = {
        "task": task, "train_file": str(file), "validation_file": str(file), "label_column": "label",
        "teacher": str(tmp_path / "teacher"), "student": str(tmp_path / "student"), "output_dir": str(tmp_path / "run"),
        "training": {"max_steps": 2, "per_device_train_batch_size": 8, "disable_tqdm": True, "use_cpu": True},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    run(read_recipe(tmp_path / "recipe.yaml"))
    assert metric in (tmp_path / "run" / "results.md").read_text(encoding="utf-8")
