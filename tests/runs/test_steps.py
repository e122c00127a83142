"""The steps of a run, and what each waits for, without a model in sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from small_runs import write_recipe
from ted_distill import InputError, read_recipe
from ted_distill.output import MANIFEST_NAME, read_manifest, write_sealed
from ted_distill.runs.recipe import make_recipe
from ted_distill.runs.steps import Steps

RECIPE = {
    "task": "sequence_classification",
    "train_file": "t.json",
    "validation_file": "v.json",
    "output_dir": "runs/x",
}


def needs(shared: Path | None = None, **keys: Any) -> dict[str, tuple[str, ...]]:
    return {node.name: node.needs for node in Steps(make_recipe({**RECIPE, **keys}), shared).nodes}


def test_two_given_models_are_fine_tuned_independently() -> None:
    assert needs(teacher="big", student="small", methods=["kd", "ted"], ted={"student_filters": "learned"}) == {
        "finetune_teacher": (),
        "finetune_student": (),
        "learn_filters_teacher": ("finetune_teacher",),
        "learn_filters_student": ("finetune_student",),
        "alone": ("finetune_student",),
        "kd": ("finetune_teacher", "finetune_student"),
        "ted": ("learn_filters_teacher", "learn_filters_student"),
    }


def test_a_student_of_the_teachers_blocks_waits_for_it() -> None:
    assert needs(teacher="big", student_layers=[2, 4], methods=["kd"]) == {
        "finetune_teacher": (),
        "student_init": ("finetune_teacher",),
        "score_student": ("student_init",),
        "alone": ("student_init",),
        "kd": ("finetune_teacher", "student_init"),
    }


def test_models_that_are_taken_as_they_are_are_only_scored() -> None:
    kept = {"finetune_teacher": False, "finetune_student": False}
    assert needs(teacher="big", student="small", methods=["kd"], **kept) == {
        "score_teacher": (),
        "score_student": (),
        "alone": (),
        "kd": (),
    }


def test_everything_waits_for_a_teacher_from_scratch() -> None:
    scratch = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    found = needs(from_scratch={**scratch, "vocab_size": 50}, student_layers=[2], methods=["kd"])
    assert found["teacher_init"] == ()
    assert all(waits[0] == "teacher_init" for name, waits in found.items() if name != "teacher_init")


def test_further_scores_wait_for_their_model_and_runs_share_all_but_the_methods() -> None:
    further = {"other": {"task": "sequence_classification", "validation_file": "o.json"}}
    recipe = make_recipe({**RECIPE, "teacher": "big", "student_layers": [2], "methods": ["kd"], "score_on": further})
    steps = Steps(recipe, Path("runs/shared"))
    found = {node.name: node.needs for node in steps.nodes}
    assert found["score_teacher_on_other"] == ("finetune_teacher",)
    assert found["score_kd_on_other"] == ("kd",)
    own = [name for name in found if not steps.is_shared(name)]
    assert own == ["alone", "kd", "score_alone_on_other", "score_kd_on_other"]


def test_a_student_that_an_older_version_made_is_still_the_same(tmp_path: Path) -> None:
    """It did not record the tokenizer of what the student is made of."""
    words = ["finetune_teacher=false", "student_layers=[1,2]", "student=null", f"output_dir={tmp_path / 'run'}"]
    recipe = read_recipe(write_recipe(tmp_path, "sequence_classification"), words)
    Steps(recipe).make("student_init")
    made = tmp_path / "run" / "student_init"
    found = read_manifest(made) or {}
    del found["identity"]["source"]["tokenizer"]
    write_sealed(made / MANIFEST_NAME, found)
    Steps(recipe).make("student_init")
    assert (read_manifest(made) or {})["identity"] == found["identity"]
    found["identity"]["source"]["backbone"] = "another"
    write_sealed(made / MANIFEST_NAME, found)
    with pytest.raises(InputError, match="got one that differs"):
        Steps(recipe).make("student_init")


def test_a_given_teacher_that_changes_during_a_run_is_refused_by_name(tmp_path: Path) -> None:
    kept = ["finetune_teacher=false", "finetune_student=false", "training.max_steps=1", "training.eval_strategy=no"]
    words = [*kept, "training.save_strategy=no", "methods=[kd,lwd]", f"output_dir={tmp_path / 'run'}"]
    recipe = read_recipe(write_recipe(tmp_path, "sequence_classification"), words)
    steps = Steps(recipe)
    steps.make("kd")
    weights = tmp_path / "big" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match=r"teacher: expected .*big as it was for stage kd, got another .* lwd"):
        Steps(recipe).make("lwd")
    weights.write_bytes(before)
    assert Steps(recipe).make("lwd")["steps"] == 1
