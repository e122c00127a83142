"""The stages with models and data that do not quite fit: classes that are missing, encoder-decoders, short models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BartConfig,
    BertConfig,
    FunnelConfig,
    PretrainedConfig,
    T5Config,
)

from ted_distill import (
    DistillArguments,
    InputError,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    evaluate,
    finetune,
    learn_filters,
    load_task,
)
from ted_distill.models.load import offer_to_task
from ted_distill.runs.recipe import read_recipe
from ted_distill.runs.run import run
from tiny import save_tiny, tiny_tokenizer, write_reviews

_ENCODER = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 64}  # fmt: skip
SEQ2SEQ = {
    "bart": BartConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, num_labels=2,
    ),
    "t5": T5Config(
        vocab_size=40, d_model=16, d_ff=24, d_kv=8, num_layers=2, num_heads=2, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=0, num_labels=2,
    ),
}  # fmt: skip
FUNNEL = FunnelConfig(vocab_size=40, block_sizes=[1, 1], d_model=16, n_head=2, d_head=8, d_inner=24, num_labels=2)


def args(folder: Path, **changes: Any) -> StageArguments:
    settings = {"max_steps": 2, "learning_rate": 1e-3, "eval_strategy": "no", "save_strategy": "no",
                "report_to": "none", "disable_tqdm": True, "per_device_train_batch_size": 4}  # fmt: skip
    return StageArguments(str(folder), **(settings | changes))


def save(folder: Path, config: PretrainedConfig, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tiny_tokenizer(token_type_ids=False).save_pretrained(folder)
    return folder


def task_of(file: Path, task: str = "sequence_classification") -> Task:
    return load_task(TaskArguments(task=task, train_file=str(file), validation_file=str(file)))


def write(folder: Path, labels: list[str], name: str) -> Path:
    words = {"us": "good", "US": "bad", "bad": "bad", "good": "good", "fine": "fine"}
    file = folder / f"{name}.jsonl"
    rows = [{"text": f"the film was {words[label]}", "label": label} for label in labels]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


# --- labels ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("float32")
def test_classes_that_differ_by_case_score_the_same_in_training_and_after(tmp_path: Path) -> None:
    task = task_of(write(tmp_path, ["us", "US"] * 8, "rows"))
    model = save(tmp_path / "model", BertConfig(**_ENCODER))
    trained = finetune(
        model, task, args(tmp_path / "out", max_steps=30, learning_rate=1e-2, per_device_train_batch_size=8,
                          warmup_steps=0, eval_strategy="steps", eval_steps=30,
                          save_strategy="steps", save_steps=30)
    )  # fmt: skip
    assert trained["accuracy"] == 100
    assert evaluate(tmp_path / "out", task)["accuracy"] == 100


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("labels", [["good", "bad", "good"], ["good", "good"]], ids=["two of three", "one of three"])
def test_a_test_file_that_lacks_classes_is_scored_with_the_models_own(labels: list[str], tmp_path: Path) -> None:
    model = save_tiny(
        tmp_path / "model", AutoModelForSequenceClassification,
        id2label={0: "fine", 1: "good", 2: "bad"}, label2id={"fine": 0, "good": 1, "bad": 2},
    )  # fmt: skip
    whole = write(tmp_path, ["good", "bad", "fine", *labels], "whole")
    scores = evaluate(model, task_of(write(tmp_path, labels, "rows")), output_dir=tmp_path / "scores")
    evaluate(model, task_of(whole), output_dir=tmp_path / "whole scores")
    said, of_whole = (
        json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("scores", "whole scores")
    )
    assert said == of_whole[3:]
    right = sum(label == found for label, found in zip(labels, said, strict=True))
    assert scores["accuracy"] == pytest.approx(100 * right / len(labels))


def test_a_test_file_that_lacks_tags_is_scored_with_the_models_own(tmp_path: Path) -> None:
    tags = {0: "O", 1: "B-person", 2: "B-thing"}
    model = save_tiny(
        tmp_path / "model", AutoModelForTokenClassification, id2label=tags, label2id={v: k for k, v in tags.items()}
    )
    file = tmp_path / "words.jsonl"
    file.write_text(json.dumps({"tokens": ["the", "film"], "ner_tags": ["O", "O"]}))
    task = task_of(file, "token_classification")
    assert set(evaluate(model, task)) >= {"f1", "accuracy"}
    offer_to_task(str(model), task)
    assert task.label_names == ["O", "B-person", "B-thing"]


def test_filters_and_students_are_learnt_on_data_that_lack_a_class(tmp_path: Path) -> None:
    labels = {"id2label": {0: "bad", 1: "fine", 2: "good"}, "label2id": {"bad": 0, "fine": 1, "good": 2}}
    teacher = save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification, **labels)
    file = write(tmp_path, ["good", "bad"] * 4, "rows")
    learn_filters(teacher, task_of(file), args(tmp_path / "filters"))
    student = save(tmp_path / "student", BertConfig(**_ENCODER), seed=1)
    distill(teacher, student, task_of(file), args(tmp_path / "kd"), DistillArguments("kd", new_head=True))
    config = json.loads((tmp_path / "kd" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["bad", "fine", "good"]


def test_a_student_or_a_second_model_must_have_the_labels_of_the_first(tmp_path: Path) -> None:
    file = write(tmp_path, ["good", "bad"] * 4, "rows")
    names = ["bad", "fine", "good"]
    for name, known in (("two", ["bad", "good"]), ("three", names)):
        labels = {"id2label": dict(enumerate(known)), "label2id": {label: n for n, label in enumerate(known)}}
        save_tiny(tmp_path / name, AutoModelForSequenceClassification, **labels)
    task = task_of(file)
    with pytest.raises(InputError, match=r"three to have the 2 labels of the task, got also fine"):
        distill(tmp_path / "two", tmp_path / "three", task, args(tmp_path / "out"), DistillArguments("kd"))
    with pytest.raises(InputError, match=r"two to have the data's labels, got bad, good without fine"):
        evaluate(tmp_path / "three", task, teacher_name_or_path=tmp_path / "two")
    for name in ("two", "three", "two"):
        assert evaluate(tmp_path / name, task)["accuracy"] >= 0


# --- families -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SEQ2SEQ)
def test_an_encoder_decoder_goes_through_all_stages_with_filters_on_its_encoder(family: str, tmp_path: Path) -> None:
    task = task_of(write_reviews(tmp_path, 12))
    for owner, seed in (("teacher", 0), ("student", 1)):
        save(tmp_path / f"{owner}_raw", SEQ2SEQ[family], seed)
        finetune(tmp_path / f"{owner}_raw", task, args(tmp_path / owner))
        learn_filters(tmp_path / owner, task, args(tmp_path / f"{owner}_filters"))
    results = distill(
        tmp_path / "teacher_filters", tmp_path / "student_filters", task, args(tmp_path / "ted"),
        DistillArguments("ted"),
    )  # fmt: skip
    assert results["steps"] == 2
    assert set(json.loads((tmp_path / "teacher_filters" / "filters.json").read_text())["blocks"]) == {1, 2}
    assert evaluate(tmp_path / "ted", task)["accuracy"] >= 0


def test_a_model_without_states_of_its_blocks_is_refused_with_what_works(tmp_path: Path) -> None:
    task = task_of(write_reviews(tmp_path, 12))
    finetune(save(tmp_path / "raw", FUNNEL), task, args(tmp_path / "model"))
    model, out = tmp_path / "model", tmp_path / "out"
    for stage in (
        lambda: learn_filters(model, task, args(out)),
        lambda: distill(model, model, task, args(out), DistillArguments("lwd")),
    ):
        with pytest.raises(
            InputError, match=r"got \(3, 4, 16\) of block 2; use method kd, which matches only predictions"
        ):
            stage()
        assert not out.exists()
    assert distill(model, model, task, args(out), DistillArguments("kd"))["steps"] == 2


def test_a_run_refuses_a_student_that_a_later_stage_cannot_use_before_it_trains_the_teacher(tmp_path: Path) -> None:
    save_tiny(tmp_path / "teacher", AutoModelForSequenceClassification)
    save(tmp_path / "student", FUNNEL)
    (tmp_path / "recipe.yaml").write_text(
        f"task: sequence_classification\ntrain_file: {write_reviews(tmp_path, 12)}\n"
        f"validation_file: {write_reviews(tmp_path, 12)}\nteacher: {tmp_path / 'teacher'}\n"
        f"student: {tmp_path / 'student'}\noutput_dir: {tmp_path / 'out'}\nmethods: [lwd]\n"
    )
    with pytest.raises(InputError, match=r"FunnelForSequenceClassification.* use method kd, which matches only"):
        run(read_recipe(tmp_path / "recipe.yaml"))
    assert not (tmp_path / "out").exists()


def test_a_student_with_fewer_positions_than_its_teacher_gets_shorter_rows(tmp_path: Path) -> None:
    task = task_of(write_reviews(tmp_path, 12))
    short = {**_ENCODER, "max_position_embeddings": 6}
    teacher = save(tmp_path / "teacher", BertConfig(**_ENCODER, id2label={0: "bad", 1: "good"}))
    student = save(tmp_path / "student", BertConfig(**short, id2label={0: "bad", 1: "good"}))
    assert distill(teacher, student, task, args(tmp_path / "kd"), DistillArguments("kd"))["steps"] == 2
