"""What Stage II keeps as it is: word embeddings of the fine-tuned teacher, and filters that are not to be trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from quick_stages import reviews_task
from ted_distill import DistillArguments, InputError, StageArguments, Task, TaskArguments, distill, load_task, run
from ted_distill.models.students import make_student
from ted_distill.runs.recipe import make_recipe
from ted_distill.runs.steps import Steps
from tiny import save_tiny, write_reviews, write_text

WORDS = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return reviews_task(tmp_path_factory.mktemp("reviews"))


def trained(teacher: Path, student: Path, task: Task, out: Path, **settings: Any) -> dict[str, bool]:
    """Of each weight of the student, whether two updates changed it."""
    quick = {"max_steps": 2, "warmup_steps": 0, "learning_rate": 1e-2, "use_cpu": True, "disable_tqdm": True}
    distill(teacher, student, task, StageArguments(str(out), **quick), DistillArguments(**settings))  # type: ignore[arg-type]
    before, after = (load_file(folder / "model.safetensors") for folder in (student, out))
    after = {name.removeprefix("bert."): tensor for name, tensor in after.items()}
    before = {name.removeprefix("bert."): tensor for name, tensor in before.items()}
    return {name: not torch.equal(before[name], after[name]) for name in before}


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification, "bert", blocks=4, num_labels=2)


@pytest.mark.parametrize("method", ["alone", "kd", "lwd"])
def test_a_student_of_the_teachers_blocks_keeps_its_word_embeddings(
    method: str, teacher: Path, reviews: Task, tmp_path: Path
) -> None:
    student, out = tmp_path / "student", tmp_path / "out"
    make_student(teacher, [2, 4], student)
    changed = trained(teacher, student, reviews, out, method=method)
    assert not changed[WORDS]
    assert changed["embeddings.position_embeddings.weight"]
    assert changed["encoder.layer.0.output.dense.weight"]
    identity = json.loads((out / "settings.json").read_text(encoding="utf-8"))["identity"]
    assert identity["distill"]["train_embeddings"] is False


def test_they_are_trained_where_that_is_asked_for(teacher: Path, reviews: Task, tmp_path: Path) -> None:
    make_student(teacher, [2, 4], tmp_path / "student")
    settings = {"method": "kd", "train_embeddings": True}
    assert trained(teacher, tmp_path / "student", reviews, tmp_path / "out", **settings)[WORDS]


def test_a_narrower_student_trains_its_own(teacher: Path, reviews: Task, tmp_path: Path) -> None:
    make_student(teacher, [2, 4], tmp_path / "student", hidden_size=8)
    assert trained(teacher, tmp_path / "student", reviews, tmp_path / "out", method="kd")[WORDS]


def test_a_student_of_a_model_without_a_head_trains_its_own(teacher: Path, reviews: Task, tmp_path: Path) -> None:
    """Its embeddings are those of the model before it was fine-tuned."""
    make_student(save_tiny(tmp_path / "raw", AutoModel, "bert", blocks=4), [2, 4], tmp_path / "student")
    settings = {"method": "kd", "new_head": True}
    assert trained(teacher, tmp_path / "student", reviews, tmp_path / "out", **settings)[WORDS]


def test_a_student_that_was_trained_since_goes_on_with_all_of_it(teacher: Path, reviews: Task, tmp_path: Path) -> None:
    """`student.json` goes with a student that is trained further; its embeddings may have moved by then."""
    make_student(teacher, [2, 4], tmp_path / "student")
    trained(teacher, tmp_path / "student", reviews, tmp_path / "first", method="kd", train_embeddings=True)
    assert (tmp_path / "first" / "student.json").is_file()
    assert trained(teacher, tmp_path / "first", reviews, tmp_path / "second", method="kd")[WORDS]


def test_a_language_model_trains_them_for_it_predicts_with_them(tmp_path: Path) -> None:
    teacher = save_tiny(tmp_path / "teacher", AutoModelForCausalLM, "gpt2", blocks=4)
    make_student(teacher, [2, 4], tmp_path / "student")
    text = str(write_text(tmp_path))
    task = load_task(TaskArguments("causal_lm", train_file=text, validation_file=text, max_seq_length=16))
    changed = trained(teacher, tmp_path / "student", task, tmp_path / "out", method="kd")
    assert changed["transformer.wte.weight"]


def distilled(teacher: Path, task: Task, out: Path, updates: int, **settings: bool) -> dict[str, torch.Tensor]:
    """The filters and weights of a student after some updates of LWD, the former under `filters.`."""
    student = out.parent / "student"
    if not student.is_dir():
        make_student(teacher, [2, 4], student)
    quick = {"max_steps": updates, "warmup_steps": 0, "learning_rate": 1e-2, "use_cpu": True, "disable_tqdm": True}
    arguments = DistillArguments("lwd", student_filters="least_squares", **settings)
    distill(teacher, student, task, StageArguments(str(out), **quick), arguments)  # type: ignore[arg-type]
    filters = {f"filters.{name}": weight for name, weight in load_file(out / "filters.safetensors").items()}
    return filters | load_file(out / "model.safetensors")


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], filters: bool) -> set[str]:
    names = [name for name in one if name.startswith("filters.") is filters]
    assert names
    return {name for name in names if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("kept", [False, True])
def test_filters_move_unless_they_are_to_stay(kept: bool, teacher: Path, reviews: Task, tmp_path: Path) -> None:
    settings = {"train_filters": False} if kept else {}
    one, three = (distilled(teacher, reviews, tmp_path / f"after_{n}", n, **settings) for n in (1, 3))
    assert changed(one, three, filters=False)
    assert bool(changed(one, three, filters=True)) is not kept


def test_a_stage_with_other_trained_weights_is_another_one(teacher: Path, reviews: Task, tmp_path: Path) -> None:
    distilled(teacher, reviews, tmp_path / "out", 1)
    with pytest.raises(InputError, match="train_filters"):
        distilled(teacher, reviews, tmp_path / "out", 1, train_filters=False)
    identity = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))["identity"]
    assert "train_filters" not in identity["distill"], "stages finished before there was this setting stay finished"


@pytest.mark.parametrize("method", ["alone", "kd", "hidden", "attention"])
def test_methods_without_filters_of_the_students_refuse_it(method: str) -> None:
    with pytest.raises(InputError, match=r"train_filters: expected true, as method \w+ has no filters of the student"):
        DistillArguments(method, train_filters=False)  # type: ignore[arg-type]


def test_all_methods_of_a_run_train_the_words_of_a_student_of_another_model(
    teacher: Path, reviews: Task, tmp_path: Path
) -> None:
    """Without a teacher as with one: otherwise what all are measured by would have fewer trained weights than they."""
    other = save_tiny(tmp_path / "other", AutoModelForSequenceClassification, "bert", blocks=4, num_labels=2, seed=5)
    make_student(other, [2, 4], tmp_path / "student")
    rows = str(write_reviews(tmp_path, 24))
    recipe = {
        "task": "sequence_classification", "train_file": rows, "validation_file": rows, "teacher": str(teacher),
        "student": str(tmp_path / "student"), "methods": ["kd"], "output_dir": str(tmp_path / "run"),
        "finetune_teacher": False, "finetune_student": False,
        "training": {"max_steps": 1, "use_cpu": True, "disable_tqdm": True},
    }  # fmt: skip
    run(recipe)
    # The teacher that a run fine-tunes itself need not be there yet.
    tuned = make_recipe({**recipe, "finetune_teacher": {"learning_rate": 1e-3}, "output_dir": str(tmp_path / "tuned")})
    Steps(tuned).make("alone")
    settings = json.loads((tmp_path / "tuned" / "alone" / "settings.json").read_text(encoding="utf-8"))
    assert settings["identity"]["distill"]["train_embeddings"] is True
    for method in ("alone", "kd"):
        settings = json.loads((tmp_path / "run" / method / "settings.json").read_text(encoding="utf-8"))
        assert settings["identity"]["distill"]["train_embeddings"] is True, method
