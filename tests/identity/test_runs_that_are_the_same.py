"""A run folder: what is another is refused before anything is written, and scores are never those of other weights."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from ted_distill import InputError, StageArguments, Task, TaskArguments, finetune, load_task, read_recipe, run
from ted_distill.fast.states_cache import cache_folder
from ted_distill.identity import fingerprint
from ted_distill.models.load import ModelArguments, load_model
from ted_distill.models.students import make_student
from ted_distill.runs.matching import run_pairs
from ted_distill.tasks.reading import mapped as mapped_module
from ted_distill.tasks.reading.mapped import mapped
from tiny import CLASSES, save_tiny, tiny_tokenizer, write_questions, write_reviews

QUICK: dict[str, Any] = {
    "max_steps": 1, "per_device_train_batch_size": 8, "eval_strategy": "no", "save_strategy": "no",
    "disable_tqdm": True, "use_cpu": True, "report_to": "none",
}  # fmt: skip


def recipe_of(folder: Path, **changes: Any) -> Path:
    """A recipe of KD on models that are fine-tuned already."""
    content = {
        "task": "sequence_classification",
        "max_seq_length": 16,
        "train_file": str(folder / "train.jsonl"),
        "validation_file": str(folder / "validation.jsonl"),
        "teacher": str(folder / "teacher"),
        "student": str(folder / "student"),
        "finetune_teacher": False,
        "finetune_student": False,
        "methods": ["kd"],
        "training": QUICK,
        "output_dir": str(folder / "run"),
    }
    file = folder / "recipe.yaml"
    content = {key: value for key, value in {**content, **changes}.items() if value is not None}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_reviews(tmp_path, 16, "train")
    write_reviews(tmp_path, 8, "validation")
    save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification, blocks=4, **CLASSES)
    save_tiny(tmp_path / "student", AutoModelForSequenceClassification, blocks=2, width=8, seed=1, **CLASSES)
    return tmp_path


def review_task(folder: Path) -> Task:
    files = {"train_file": str(folder / "train.jsonl"), "validation_file": str(folder / "validation.jsonl")}
    return load_task(TaskArguments("sequence_classification", **files))


def decide(model: Path, label: int) -> None:
    """Let a classifier answer `label` to everything."""
    weights = load_file(model / "model.safetensors")
    weights["classifier.weight"] = torch.zeros_like(weights["classifier.weight"])
    weights["classifier.bias"] = torch.nn.functional.one_hot(torch.tensor(label), 2).float()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- scores ---------------------------------------------------------------------------------------------------


def test_a_model_taken_as_it_is_is_scored_again_once_its_weights_are_others(folder: Path) -> None:
    only_good = [json.dumps({"text": "the film was good.", "label": "good"})] * 3 + [
        json.dumps({"text": "the film was bad.", "label": "bad"})
    ]
    (folder / "validation.jsonl").write_text("\n".join(only_good))
    decide(folder / "teacher", 0)
    recipe = recipe_of(folder, methods=[], score_on={"more": {"task": "sequence_classification", "max_seq_length": 16,
        "validation_file": str(folder / "validation.jsonl")}})  # fmt: skip
    assert run(read_recipe(recipe))["teacher"]["accuracy"] == 25.0
    decide(folder / "teacher", 1)
    again = run(read_recipe(recipe))["teacher"]
    assert again["accuracy"] == 75.0
    assert again["more_accuracy"] == 75.0


def test_scores_are_kept_where_nothing_changed_but_places(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = recipe_of(folder, methods=[])
    first = run(read_recipe(recipe))
    (folder / "validation.jsonl").rename(folder / "rows.jsonl")
    (folder / "teacher").rename(folder / "big")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = run(read_recipe(recipe, [f"validation_file={folder}/rows.jsonl", f"teacher={folder}/big"]))
    named = [result.pop("scored_on")["validation"]["from"] for result in (*first.values(), *again.values())]
    assert named == ["validation.jsonl"] * 2 + ["rows.jsonl"] * 2
    folders = [result.pop("folder") for result in (first["teacher"], again["teacher"])]
    assert folders == ["teacher", "big"]
    assert again == first
    assert "scoring" not in caplog.text


def test_scores_on_other_data_are_taken_again(folder: Path) -> None:
    decide(folder / "teacher", 1)
    recipe = recipe_of(folder, methods=[])
    assert run(read_recipe(recipe))["teacher"]["accuracy"] == 50.0
    rows = (folder / "validation.jsonl").read_text().splitlines()
    (folder / "validation.jsonl").write_text("\n".join([row for row in rows if '"good"' in row] + rows[:1]))
    assert run(read_recipe(recipe))["teacher"]["accuracy"] == 80.0


# --- models that a run makes ----------------------------------------------------------------------------------


@pytest.mark.long
def test_a_student_made_of_a_teacher_that_is_another_now_is_refused_by_name(folder: Path) -> None:
    recipe = recipe_of(folder, student=None, student_layers=[2, 4])
    run(read_recipe(recipe))
    before = files_of(folder / "run")
    # Another head makes another student, unless the student gets one of its own.
    run(read_recipe(recipe, ["start_from=finetuned", f"output_dir={folder / 'raw'}"]))
    decide(folder / "teacher", 1)
    with pytest.raises(InputError, match=r"student_init to hold the model that the recipe asks for.*source head"):
        run(read_recipe(recipe))
    with pytest.raises(InputError) as error:
        run(read_recipe(recipe, ["start_from=finetuned", f"output_dir={folder / 'raw'}"]))
    assert "teacher head changed" in str(error.value)
    assert "student_init" not in str(error.value)
    shutil.rmtree(folder / "teacher")
    save_tiny(folder / "teacher", AutoModelForSequenceClassification, blocks=4, seed=5, **CLASSES)
    with pytest.raises(InputError, match=r"student_init to hold the model that the recipe asks for.*source backbone"):
        run(read_recipe(recipe))
    assert files_of(folder / "run") == before
    with pytest.raises(InputError, match=r"blocks was \[2, 4\], now \[1, 3\]"):
        run(read_recipe(recipe, ["student_layers=[1,3]"]))


# --- the folder -----------------------------------------------------------------------------------------------


def test_a_refused_run_leaves_the_finished_run_as_it_was(folder: Path) -> None:
    recipe = recipe_of(folder)
    run(read_recipe(recipe))
    before = files_of(folder / "run")
    for overrides, named in (
        (["kd.kl_alpha=7"], "distill kl_alpha was 1.0, now 7"),
        (["training.seed=3"], "arguments seed was 42, now 3"),
        (["max_seq_length=12"], "task max_seq_length was 16, now 12"),
        ([f"student={folder / 'teacher'}"], "student backbone changed"),
    ):
        with pytest.raises(InputError, match=named):
            run(read_recipe(recipe, overrides))
        assert files_of(folder / "run") == before
    run(read_recipe(recipe))
    assert set(files_of(folder / "run")) == set(before)


def test_a_recipe_of_another_task_in_the_same_folder_leaves_nothing_there(folder: Path) -> None:
    run(read_recipe(recipe_of(folder)))
    before = files_of(folder / "run")
    questions = write_questions(folder)
    other = recipe_of(
        folder, task="squad_v2", max_seq_length=48, doc_stride=8, train_file=str(questions),
        validation_file=str(questions), teacher=None, student=None, student_layers=[1], finetune_teacher=None,
        finetune_student=None, from_scratch={"model_type": "bert", "hidden_size": 16, "num_attention_heads": 2},
    )  # fmt: skip
    with pytest.raises(InputError, match="task task was sequence_classification, now squad_v2"):
        run(read_recipe(other))
    assert files_of(folder / "run") == before


def test_all_stages_that_differ_are_named_before_the_first_is_run(folder: Path) -> None:
    recipe = recipe_of(folder, methods=["kd", "lwd"])
    run(read_recipe(recipe))
    with pytest.raises(InputError) as error:
        run(read_recipe(recipe, ["kd.kl_alpha=7", "lwd.mse_alpha=7"]))
    assert len(error.value.problems) == 2
    assert all(name in str(error.value) for name in ("run/kd", "run/lwd", "kl_alpha", "mse_alpha"))


def test_a_recipe_that_lies_in_the_folder_is_not_overwritten(folder: Path) -> None:
    recipe = recipe_of(folder)
    (folder / "run").mkdir()
    mine = folder / "run" / "recipe.yaml"
    mine.write_text("# my notes\n" + recipe.read_text())
    before = mine.read_bytes()
    with pytest.raises(InputError, match=r"where no run wrote recipe.yaml; give another output_dir"):
        run(read_recipe(mine))
    assert mine.read_bytes() == before


def test_a_folder_of_a_stage_that_holds_something_else_is_refused_before_the_first_stage(folder: Path) -> None:
    (folder / "run" / "kd").mkdir(parents=True)
    (folder / "run" / "kd" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"run/kd, which holds notes.txt"):
        run(read_recipe(recipe_of(folder)))
    assert set(files_of(folder / "run")) == {"kd/notes.txt"}


def test_a_stage_whose_folder_was_deleted_is_run_again_and_those_after_it_are_skipped(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_of(folder, finetune_teacher=None, student=None, student_layers=[2, 4])
    first = run(read_recipe(recipe))
    shutil.rmtree(folder / "run" / "teacher")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = run(read_recipe(recipe))
    assert "== finetune teacher -> " in caplog.text
    assert "== kd is finished, skipped" in caplog.text
    assert again["kd"] == first["kd"]


def test_a_method_can_be_added_to_a_finished_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(read_recipe(recipe_of(folder)))
    with caplog.at_level(logging.WARNING):
        results = run(read_recipe(recipe_of(folder, methods=["kd", "lwd"])))
    assert list(results) == ["teacher", "student", "alone", "kd", "lwd"]
    assert "kd is finished, skipped" in caplog.text
    assert "methods:\n- kd\n- lwd" in (folder / "run" / "recipe.yaml").read_text()


def test_a_whole_run_is_skipped_in_a_folder_that_was_moved(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = run(read_recipe(recipe_of(folder, methods=["lwd", "ted"])))
    moved = folder.parent / "moved"
    folder.rename(moved)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = run(read_recipe(recipe_of(moved, methods=["lwd", "ted"])))
    assert again == first
    stages = [line for line in caplog.messages if line.startswith("== ")]
    assert len(stages) == 4
    assert all(line.endswith("is finished, skipped") for line in stages)


# --- pairs of a student made of blocks ------------------------------------------------------------------------


def test_blocks_a_student_was_made_of_hold_for_its_own_teacher_and_its_fine_tuned_form_alone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_student(folder / "teacher", [1, 4], folder / "made")
    save_tiny(folder / "deep", AutoModelForSequenceClassification, blocks=8, seed=3, **CLASSES)
    save_tiny(folder / "like it", AutoModelForSequenceClassification, blocks=4, seed=3, **CLASSES)
    task = review_task(folder)
    finetune(folder / "teacher", task, StageArguments(str(folder / "tuned"), **QUICK))
    finetune(folder / "tuned", task, StageArguments(str(folder / "tuned again"), **QUICK))
    caplog.clear()

    def pairs(teacher: str) -> list[tuple[int, int]]:
        recipe = recipe_of(folder, teacher=str(folder / teacher), student=str(folder / "made"), methods=["lwd"])
        return run_pairs(read_recipe(recipe))

    assert pairs("teacher") == pairs("tuned") == pairs("tuned again") == [(1, 1), (4, 2)]
    assert not caplog.messages
    assert pairs("deep") == [(4, 1), (8, 2)]
    assert pairs("like it") == [(2, 1), (4, 2)]
    assert caplog.text.count("made of blocks 1, 4 of another model") == 2


# --- caches ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", ["layer_norm_eps=0.001", "hidden_act=relu"])
def test_models_of_equal_weights_and_another_config_share_no_cached_row(folder: Path, overrides: str) -> None:
    features = Dataset.from_dict({"input_ids": [[1, 2]], "length": [2]})
    folders = set()
    for changes in (None, overrides):
        loaded = load_model(folder / "teacher", review_task(folder), ModelArguments(changes))
        folders.add(cache_folder(folder, fingerprint(loaded.identity), features, torch.float32, False))
    assert len(folders) == 2


def test_models_of_equal_weights_and_another_class_or_order_of_labels_share_no_cached_row(folder: Path) -> None:
    task = review_task(folder)
    one = load_model(folder / "teacher", task).identity
    config = json.loads((folder / "teacher" / "config.json").read_text())
    config |= {"id2label": {"0": "good", "1": "bad"}, "label2id": {"good": 0, "bad": 1}}
    (folder / "teacher" / "config.json").write_text(json.dumps(config))
    other = load_model(folder / "teacher", task).identity
    assert other["label_order"] == [1, 0]
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) != fingerprint({**one, "class": "Other"})


def test_mapped_rows_are_found_again_until_rows_tokenizer_arguments_or_code_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Dataset.from_dict({"text": ["the film", "a book"]})
    rows.save_to_disk(tmp_path / "rows")

    def key(texts: Dataset | None = None, **changes: Any) -> str:
        found = mapped(
            texts or Dataset.load_from_disk(tmp_path / "rows"), _lengths, description="test",
            **{"tokenizer": tiny_tokenizer(), "extra": 1, **changes},
        )  # fmt: skip
        return str(found._fingerprint)

    first = key()
    used = tiny_tokenizer()
    used(["the film", "a"], padding=True, truncation=True, max_length=3)
    assert key() == key(tokenizer=used) == first
    shutil.move(tmp_path / "rows", tmp_path / "moved")
    assert key(Dataset.load_from_disk(tmp_path / "moved")) == first
    longer = tiny_tokenizer()
    longer.add_tokens(["novel"])
    assert key(rows, tokenizer=longer) != first
    assert key(rows, extra=2) != first
    assert key(Dataset.from_dict({"text": ["the film", "the book"]})) != first
    monkeypatch.setattr(mapped_module.identity, "source_fingerprint", lambda function: "another version")
    assert key(rows) != first


def _lengths(rows: dict[str, list[Any]], tokenizer: Any, extra: int) -> dict[str, list[Any]]:
    return {"length": [len(ids) + extra for ids in tokenizer(rows["text"])["input_ids"]]}


def test_no_task_maps_its_rows_past_the_cache_that_knows_the_code() -> None:
    """`Dataset.map` is called in one place."""
    source = Path(mapped_module.__file__).parents[1]
    callers = [
        file.name for file in source.rglob("*.py") if ".map(\n" in file.read_text() or "rows.map(" in file.read_text()
    ]
    assert callers == ["mapped.py"]
