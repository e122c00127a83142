"""Every family through all stages: what comes out is a plain checkpoint that transformers loads without a complaint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from ted_distill import (
    DistillArguments,
    LearnFiltersArguments,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    evaluate,
    finetune,
    learn_filters,
    load_task,
)
from tiny import CLASSES, FAMILIES, save_tiny, usual_first, write_questions, write_reviews


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Task:
    file = str(write_reviews(tmp_path_factory.mktemp("data"), 16))
    return load_task(TaskArguments("sequence_classification", train_file=file, validation_file=file))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Task:
    file = str(write_questions(tmp_path_factory.mktemp("data"), 9))
    arguments = TaskArguments("squad_v2", train_file=file, validation_file=file, max_seq_length=48, doc_stride=8)
    return load_task(arguments)


def two_steps(folder: Path, **changes: Any) -> StageArguments:
    quick = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "no"}
    quiet = {"eval_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 1, "use_cpu": True}
    return StageArguments(str(folder), **(quick | quiet | changes))


def run_all_stages(root: Path, family: str, task: Task) -> dict[str, dict[str, Any]]:
    """A teacher of 4 blocks and a student of 2, from raw backbones to TED; results by stage."""
    save_tiny(root / "raw_teacher", AutoModel, family, blocks=4)
    save_tiny(root / "raw_student", AutoModel, family, blocks=2, seed=1)
    teacher, student = root / "teacher", root / "student"
    filters = {2: LearnFiltersArguments(filter_interval=2), 1: LearnFiltersArguments(filter_interval=1)}
    return {
        "teacher": finetune(root / "raw_teacher", task, two_steps(teacher)),
        "student": finetune(root / "raw_student", task, two_steps(student)),
        "teacher_filters": learn_filters(teacher, task, two_steps(root / "teacher_filters"), filters[2]),
        "student_filters": learn_filters(student, task, two_steps(root / "student_filters"), filters[1]),
        "ted": distill(
            root / "teacher_filters", root / "student_filters", task, two_steps(root / "ted"), DistillArguments("ted")
        ),
    }


def check(root: Path, auto_class: Any, results: dict[str, dict[str, Any]], task: Task) -> None:
    """What holds of every family and task."""
    assert {name: stage["steps"] for name, stage in results.items()} == dict.fromkeys(results, 2)
    for name in results:
        model, info = auto_class.from_pretrained(root / name, output_loading_info=True)
        assert not any(info.values()), (name, info)
        assert type(model).__module__.startswith("transformers.")
        assert type(model.config).__module__.startswith("transformers.")
        saved = load_file(root / name / "model.safetensors")
        assert not any("filter" in key for key in saved)
        assert "ted" not in json.loads((root / name / "config.json").read_text())["model_type"]
        assert model.config.num_hidden_layers == (4 if name.startswith("teacher") else 2)
        AutoTokenizer.from_pretrained(root / name)
    # Stage I leaves the model as it was, Stage II changes it and its filters.
    weights = {name: load_file(root / name / "model.safetensors") for name in results}
    for owner in ("teacher", "student"):
        assert all(torch.equal(weights[f"{owner}_filters"][key], value) for key, value in weights[owner].items())
    changed = [key for key, value in weights["student"].items() if not torch.equal(weights["ted"][key], value)]
    assert len(changed) > len(weights["student"]) / 2
    before, after = (load_file(root / name / "filters.safetensors") for name in ("student_filters", "ted"))
    assert set(before) == {f"filters.{k}.{kind}" for k in (0, 1) for kind in ("weight", "bias")}
    assert all(not torch.equal(before[key], after[key]) for key in before)
    pairs = json.loads((root / "ted" / "settings.json").read_text())["identity"]["distill"]["pairs"]
    assert pairs == [[2, 1], [4, 2]]
    # The score that was reported is that of the checkpoint that came out.
    for name in ("teacher", "ted"):
        assert evaluate(root / name, task)[task.metric] == pytest.approx(results[name][task.metric])


@pytest.mark.parametrize("family", usual_first(FAMILIES))
def test_a_family_goes_through_all_stages_of_classification(
    family: str, reviews: Task, tmp_path: Path, each_precision: str
) -> None:
    results = run_all_stages(tmp_path, family, reviews)
    check(tmp_path, AutoModelForSequenceClassification, results, reviews)
    config = json.loads((tmp_path / "ted" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["label2id"] == {"bad": 0, "good": 1}


@pytest.mark.parametrize("family", ["deberta-v2", "bert"])
def test_a_family_goes_through_all_stages_of_question_answering(
    family: str, questions: Task, tmp_path: Path, each_precision: str
) -> None:
    results = run_all_stages(tmp_path, family, questions)
    check(tmp_path, AutoModelForQuestionAnswering, results, questions)
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "ted")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "ted")
    outputs = model(**tokenizer("who wrote the book?", "Ada wrote the book.", return_tensors="pt"))
    assert outputs.start_logits.shape == outputs.end_logits.shape == (1, 13)


@pytest.mark.long
def test_what_comes_out_works_in_a_python_that_never_heard_of_ted_distill(reviews: Task, tmp_path: Path) -> None:
    save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification, blocks=4, **CLASSES)
    save_tiny(tmp_path / "student", AutoModelForSequenceClassification, blocks=2, seed=1, **CLASSES)
    distill(tmp_path / "teacher", tmp_path / "student", reviews, two_steps(tmp_path / "out"), DistillArguments("lwd"))
    here = pipeline("text-classification", str(tmp_path / "out"), device="cpu")("the film was very good.")
    program = (
        "import json, sys; sys.modules['ted_distill'] = None\n"
        "from transformers import pipeline\n"
        "print(json.dumps(pipeline('text-classification', sys.argv[1], device='cpu')('the film was very good.')))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    there = json.loads(said.stdout.splitlines()[-1])
    assert there == here
    assert there[0]["label"] in ("bad", "good")
