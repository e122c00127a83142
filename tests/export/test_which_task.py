"""The task of a checkpoint and the rows to compare on: as given, of its stage, of a recipe, or of its head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ted_distill import InputError, ModelArguments, TaskArguments, load_task
from ted_distill.export.generated_rows import KINDS, kind_of
from ted_distill.export.which_task import comparing_task, merged
from ted_distill.output import publication, write_sealed
from tiny import save_tiny, write_reviews

LOADING = ModelArguments()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "sequence_classification"),
        ({"num_labels": 1}, "regression"),
        ({"num_labels": 3, "problem_type": "regression"}, "regression"),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "multi_label_classification"),
    ],
)
def test_the_head_tells_the_kind_of_task(tmp_path: Path, changes: dict[str, Any], kind: str) -> None:
    save_tiny(tmp_path, AutoModelForSequenceClassification, **changes)
    task, split, made_up = comparing_task(str(tmp_path), None, None, LOADING)
    assert kind_of(task) == kind
    assert (split, made_up) == ("validation", True)


def test_rows_are_made_up_for_every_label_of_the_model(tmp_path: Path) -> None:
    labels = {number: f"B-{number}" for number in range(70)}
    save_tiny(tmp_path, AutoModelForTokenClassification, id2label=labels)
    task, _, _ = comparing_task(str(tmp_path), None, None, LOADING)
    assert set(task.label_names or ()) == set(labels.values())


def test_the_stage_of_a_checkpoint_tells_its_task_and_its_settings(tmp_path: Path) -> None:
    with publication(tmp_path, {"stage": "finetune", "task": "rte"}) as folder:
        save_tiny(folder, AutoModelForSequenceClassification)
        settings = {"task": "rte", "max_seq_length": 17, "doc_stride": 128, "streaming": False}
        write_sealed(folder / "settings.json", {"identity": {"stage": "finetune", "task": settings}})
    task, _, made_up = comparing_task(str(tmp_path), None, None, LOADING)
    assert (task.name, task.max_seq_length, made_up) == ("rte", 17, True)
    task, _, _ = comparing_task(str(tmp_path), TaskArguments(max_seq_length=9), None, LOADING)
    assert (task.name, task.max_seq_length) == ("rte", 9)
    task, _, _ = comparing_task(str(tmp_path), "sequence_classification", None, LOADING)
    assert task.name == "sequence_classification"
    by_name = TaskArguments()
    by_name.named = frozenset({"max_seq_length"})
    task, _, _ = comparing_task(str(tmp_path), by_name, None, LOADING)
    assert task.max_seq_length == 128


def test_a_stride_of_longer_rows_is_not_taken_over_where_shorter_ones_are_set(tmp_path: Path) -> None:
    with publication(tmp_path, {"stage": "finetune", "task": "causal_lm"}) as folder:
        save_tiny(folder, AutoModelForCausalLM, "gpt2")
        settings = {"task": "causal_lm", "max_seq_length": 48, "stride": 40}
        write_sealed(folder / "settings.json", {"identity": {"stage": "finetune", "task": settings}})
    for given, stride in (({}, 40), ({"max_seq_length": 41}, 40), ({"max_seq_length": 40}, None)):
        task, _, _ = comparing_task(str(tmp_path), TaskArguments(**given), None, LOADING)
        assert task.arguments.stride == stride
    task, _, _ = comparing_task(str(tmp_path), TaskArguments(max_seq_length=40, stride=40), None, LOADING)
    assert task.arguments.stride == 40, "what was set is refused by the task, with its name"
    assert merged({"doc_stride": 160}, {"max_seq_length": 150}) == {"max_seq_length": 150}


def test_a_checkpoint_reads_the_rows_of_a_recipe_as_it_was_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, model = str(write_reviews(tmp_path, 4)), str(tmp_path / "model")
    with publication(tmp_path / "model", {"stage": "finetune", "task": "sequence_classification"}) as folder:
        save_tiny(folder, AutoModelForSequenceClassification)
        settings = {"task": "sequence_classification", "max_seq_length": 17, "doc_stride": 128}
        write_sealed(folder / "settings.json", {"identity": {"stage": "finetune", "task": settings}})
    recipe = {"task": "sequence_classification", "teacher": model, "student_layers": [1], "validation_file": rows}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, "text_column": "text", "max_seq_length": 512}))
    task, _, _ = comparing_task(model, None, file, LOADING)
    assert (task.max_seq_length, task.arguments.text_column) == (17, "text")
    assert f"expected max_seq_length 17, with which {model} was trained, got 512" in caplog.text
    caplog.clear()
    task, _, _ = comparing_task(model, TaskArguments(max_seq_length=9), file, LOADING)
    assert (task.max_seq_length, caplog.text) == (9, "")
    file.write_text(yaml.safe_dump({**recipe, "task": "multi_label_classification", "max_seq_length": 64}))
    assert comparing_task(model, None, file, LOADING)[0].max_seq_length == 64


def test_rows_come_from_a_file_a_recipe_or_memory(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model", AutoModelForSequenceClassification, id2label={0: "bad", 1: "good"})
    model, rows = str(tmp_path / "model"), write_reviews(tmp_path, rows=12)
    task, split, made_up = comparing_task(model, None, rows, LOADING)
    assert (split, len(task.rows[split]), made_up) == ("test", 12, False)
    recipe = {
        "task": "sequence_classification", "teacher": model, "student_layers": [1], "train_file": "nowhere.csv",
        "validation_file": str(rows),
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    task, split, _ = comparing_task(model, None, tmp_path / "recipe.yaml", LOADING)
    assert (split, list(task.rows)) == ("validation", ["validation"])
    # As `ted init` writes it, and with test rows beside it.
    held_out = {key: value for key, value in recipe.items() if key != "validation_file"} | {"validation_size": 5}
    (tmp_path / "held_out.yaml").write_text(yaml.safe_dump({**held_out, "test_file": str(rows)}))
    task, split, _ = comparing_task(model, None, tmp_path / "held_out.yaml", LOADING)
    assert (split, list(task.rows), task.label_names) == ("test", ["test"], ["bad", "good"])
    task, split, _ = comparing_task(model, None, [{"text": "the film", "label": "good"}], LOADING)
    assert (split, task.label_names) == ("test", ["bad", "good"])
    own = load_task("sequence_classification", validation=[{"text": "the film", "label": "good"}])
    assert comparing_task(model, own, None, LOADING) == (own, "validation", False)
    with pytest.raises(InputError, match="give one or the other"):
        comparing_task(model, own, rows, LOADING)


def test_rows_that_are_given_take_the_place_of_a_data_set_of_the_hub(tmp_path: Path) -> None:
    file = write_reviews(tmp_path, 4)
    with publication(tmp_path / "model", {"stage": "finetune", "task": "sequence_classification"}) as folder:
        save_tiny(folder, AutoModelForSequenceClassification)
        of_hub = {"dataset_name": "me/mine", "dataset_config_name": "small", "test_split": "test"}
        settings = {"task": "sequence_classification", **of_hub}
        write_sealed(folder / "settings.json", {"identity": {"stage": "finetune", "task": settings}})
    task, split, _ = comparing_task(str(tmp_path / "model"), None, str(file), LOADING)
    assert (split, len(task.rows[split])) == ("test", 4)
    rows = [{"text": "good", "label": "good"}, {"text": "bad", "label": "bad"}]
    task, split, _ = comparing_task(str(tmp_path / "model"), None, rows, LOADING)
    assert len(task.rows[split]) == 2


def test_a_backbone_without_a_head_is_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path, AutoModel)
    with pytest.raises(InputError, match=r"expected a checkpoint with a head.*BertModel; fine-tune it first"):
        comparing_task(str(tmp_path), None, None, LOADING)


def test_every_kind_of_task_is_one_for_which_rows_can_be_made_up() -> None:
    for kind in KINDS:
        assert kind_of(load_task(kind)) == kind
    assert {kind_of(load_task(name)) for name in ("stsb", "sst2", "squad_v2", "wnut_17", "lambada")} == {
        "regression", "sequence_classification", "question_answering", "token_classification", "causal_lm",
    }  # fmt: skip
