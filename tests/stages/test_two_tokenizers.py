"""KD from a teacher that has another tokenizer than its student: each model reads its own tokens of the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, AutoModelForSequenceClassification, AutoTokenizer

from small_runs import cut_off_at
from ted_distill import (
    DistillArguments,
    InputError,
    StageArguments,
    Task,
    TaskArguments,
    distill,
    evaluate,
    load_task,
)
from ted_distill.fast.states_cache import ROW
from ted_distill.method.filters import FilteredModel
from ted_distill.models.scratch import train_tokenizer
from ted_distill.stages import DistillTrainer
from tiny import CLASSES, WORDS, save_tiny, write_questions, write_reviews

CHANGES = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3}
"""No dropout, and weights so large that the models differ from row to row."""
KINDS: dict[str, dict[str, Any]] = {
    "sequence_classification": CLASSES,
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "multi_label_classification": {
        "id2label": {0: "bad", 1: "good", 2: "long"},
        "label2id": {"bad": 0, "good": 1, "long": 2},
        "problem_type": "multi_label_classification",
    },
}


def save_student(folder: Path, auto_class: type = AutoModelForSequenceClassification, **changes: Any) -> Path:
    """A RoBERTa with a byte-level BPE, which makes more tokens of a text than the teacher's whole words."""
    tokenizer = train_tokenizer(iter([WORDS]), 280, 64, [], masked=True)
    names = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    save_tiny(folder, auto_class, "roberta", seed=1, vocab_size=len(tokenizer), **names, **changes)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(folder: Path, kind: str, rows: int, name: str) -> Path:
    """Reviews of different lengths with a class, a score or a set of labels each."""
    file = write_reviews(folder, rows, name)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for number, line in enumerate(lines):
        if kind == "regression":
            line["label"] = float(number % 5)
        if kind == "multi_label_classification":
            line["label"] = [line["label"], "long"] if "very" in line["text"] else [line["label"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Task, Path, Path]]:
    """(task, teacher, student) of a kind; made once."""
    made: dict[str, tuple[Task, Path, Path]] = {}

    def make(kind: str = "sequence_classification") -> tuple[Task, Path, Path]:
        if kind not in made:
            root = tmp_path_factory.mktemp(kind)
            files = [str(write_rows(root, kind, rows, name)) for rows, name in ((22, "train"), (12, "validation"))]
            task = load_task(TaskArguments(kind, train_file=files[0], validation_file=files[1]))
            changes = {**CHANGES, **KINDS[kind]}
            teacher = save_tiny(root / "teacher", AutoModelForSequenceClassification, blocks=4, **changes)
            made[kind] = task, teacher, save_student(root / "student", **changes)
        return made[kind]

    return make


def arguments(folder: Path, **changes: Any) -> StageArguments:
    defaults = {"per_device_train_batch_size": 8, "num_train_epochs": 1, "learning_rate": 1e-3, "logging_steps": 1}
    return StageArguments(str(folder), **(defaults | {"disable_tqdm": True, "use_cpu": True, "bf16": False} | changes))


@torch.no_grad()
def plain_logits(folder: Path, texts: list[str]) -> Tensor:
    """What transformers alone computes, row by row."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return torch.cat([model(**tokenizer(text, return_tensors="pt")).logits for text in texts])


def kd(teacher: Path, student: Path, task: Task, args: StageArguments) -> dict[str, Any]:
    return distill(teacher, student, task, args, DistillArguments("kd", kl_alpha=2.0, temperature=3.0))


EXPECTED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sequence_classification": lambda student, teacher: (
        9 * F.kl_div((student / 3).log_softmax(-1), (teacher / 3).softmax(-1), reduction="batchmean")
    ),
    "regression": F.mse_loss,
    "multi_label_classification": lambda student, teacher: (
        9
        * (
            F.binary_cross_entropy_with_logits(student / 3, (teacher / 3).sigmoid())
            - F.binary_cross_entropy_with_logits(teacher / 3, (teacher / 3).sigmoid())
        )
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_matching_loss_is_that_of_plain_models_on_their_own_tokens(
    kind: str,
    setting: Callable[..., tuple[Task, Path, Path]],
    trainers: list[DistillTrainer],
    tmp_path: Path,
    float32: None,
) -> None:
    task, teacher, student = setting(kind)
    texts = task.rows["train"]["text"][:]
    kd(teacher, student, task, arguments(tmp_path, per_device_train_batch_size=22, save_strategy="no", max_steps=1,
                                         eval_strategy="no", load_best_model_at_end=False))  # fmt: skip
    expected = EXPECTED[kind](plain_logits(student, texts), plain_logits(teacher, texts))
    assert expected > 0.01
    assert trainers[0].state.log_history[0]["match_loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_the_teachers_logits_of_a_row_depend_on_nothing_but_the_row(
    setting: Callable[..., tuple[Task, Path, Path]], trainers: list[DistillTrainer], tmp_path: Path, float32: None
) -> None:
    """Whatever the batch, its order, and the padding to the longest row of either tokenizer."""
    task, teacher, student = setting()
    kd(teacher, student, task, arguments(tmp_path, num_train_epochs=2, train_sampling_strategy="group_by_length"))
    trainer = trainers[0]
    expected = plain_logits(teacher, task.rows["train"]["text"][:])
    seen, widths = [], set()
    for batch in trainer.get_train_dataloader():
        inputs = trainer.teacher_inputs.of_batch(batch)
        widths.add((inputs["input_ids"].shape[1], batch["input_ids"].shape[1]))
        for logits in (trainer.teacher(inputs).logits, trainer.teacher.run(inputs).logits):  # kept, and computed
            assert torch.allclose(logits, expected[inputs[ROW]], atol=1e-5)
        seen += inputs[ROW].tolist()
    assert sorted(seen) == list(range(22))
    assert any(of_teacher != of_student for of_teacher, of_student in widths)


def test_kept_outputs_of_the_teacher_give_the_same_student_as_a_teacher_that_runs(
    setting: Callable[..., tuple[Task, Path, Path]],
    trainers: list[DistillTrainer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    float32: None,
) -> None:
    task, teacher, student = setting()
    ran: list[FilteredModel] = []
    run = FilteredModel.run
    monkeypatch.setattr(
        FilteredModel,
        "run",
        lambda self, *args, **needs: (
            ran.append(self) if self.frozen_model else None,
            run(self, *args, **needs),
        )[1],
    )
    same = {"num_train_epochs": 3, "train_sampling_strategy": "group_by_length"}
    kd(teacher, student, task, arguments(tmp_path / "kept", cache_limit=1, **same))
    steps = trainers[0].state.global_step
    assert len(ran) == 3 < steps == 9
    kd(teacher, student, task, arguments(tmp_path / "live", cache_limit=0, **same))
    assert len(ran) == 3 + steps
    kept, live = (load_file(tmp_path / name / "model.safetensors") for name in ("kept", "live"))
    assert all(torch.allclose(kept[name], live[name], atol=1e-6) for name in kept)


def test_batches_hold_rows_of_similar_length_in_the_students_tokens(
    setting: Callable[..., tuple[Task, Path, Path]], trainers: list[DistillTrainer], tmp_path: Path
) -> None:
    task, teacher, student = setting()
    kd(teacher, student, task, arguments(tmp_path, train_sampling_strategy="group_by_length"))
    tokenizer = AutoTokenizer.from_pretrained(student)
    lengths = [len(ids) for ids in tokenizer(task.rows["train"]["text"][:])["input_ids"]]
    assert trainers[0].train_dataset["length"][:] == lengths
    assert trainers[0].model.model.get_input_embeddings().weight.shape[0] == len(tokenizer)


def test_one_batch_of_eight_and_two_of_four_give_the_same_step(
    setting: Callable[..., tuple[Task, Path, Path]], tmp_path: Path, float32: None
) -> None:
    task, teacher, student = setting("multi_label_classification")
    found = []
    for rows in (8, 4):
        args = arguments(
            tmp_path / str(rows), per_device_train_batch_size=rows, gradient_accumulation_steps=8 // rows,
            max_steps=2, optim="sgd",
        )  # fmt: skip
        kd(teacher, student, task, args)
        found.append(load_file(tmp_path / str(rows) / "model.safetensors"))
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


def test_a_stage_that_was_cut_off_ends_with_the_same_weights(
    setting: Callable[..., tuple[Task, Path, Path]], tmp_path: Path
) -> None:
    task, teacher, student = setting()
    own = {"num_train_epochs": 2, "save_steps": 2, "eval_steps": 2, "save_strategy": "steps", "eval_strategy": "steps",
           "train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2,
           "per_device_train_batch_size": 3}  # fmt: skip
    kd(teacher, student, task, arguments(tmp_path / "whole", **own))
    with cut_off_at(5):
        kd(teacher, student, task, arguments(tmp_path / "cut", **own))
    kd(teacher, student, task, arguments(tmp_path / "cut", **own))
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_rows_that_are_too_long_for_the_teachers_tokenizer_are_refused(
    setting: Callable[..., tuple[Task, Path, Path]], tmp_path: Path
) -> None:
    task, teacher, student = setting()
    longer = load_task(TaskArguments(**{**vars(task.arguments), "max_seq_length": 65}))
    with pytest.raises(InputError, match=r"max_seq_length: expected 3 to 64 tokens, which the tokenizer .*teacher"):
        kd(teacher, student, longer, arguments(tmp_path / "out"))
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_a_task_whose_rows_are_not_features_is_refused(
    setting: Callable[..., tuple[Task, Path, Path]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task, teacher, student = setting()
    encode = type(task).encode

    def drops_long_rows(self: Task, rows: Any, tokenizer: Any) -> Any:
        return encode(self, rows, tokenizer).filter(lambda feature: feature["length"] < 18)

    monkeypatch.setattr(type(task), "encode_training", drops_long_rows)
    with pytest.raises(InputError, match="task sequence_classification: expected a feature for each row, as whole_row"):
        kd(teacher, student, task, arguments(tmp_path))


# --- agreement ------------------------------------------------------------------------------------------------


def test_agreement_is_that_of_plain_models_on_their_own_tokens(
    setting: Callable[..., tuple[Task, Path, Path]],
) -> None:
    for kind in ("sequence_classification", "regression"):
        task, teacher, student = setting(kind)
        texts = task.rows["validation"]["text"][:]
        one, other = (plain_logits(folder, texts) for folder in (student, teacher))
        found = evaluate(student, task, teacher_name_or_path=teacher, mixed_precision="no")
        if kind == "regression":
            expected = 100 * float(np.corrcoef(one[:, 0], other[:, 0])[0, 1])
            assert found["agreement_pearson"] == pytest.approx(expected, abs=0.01)
        else:
            expected = 100 * (one.argmax(-1) == other.argmax(-1)).float().mean().item()
            assert found["agreement"] == pytest.approx(expected)
        assert {**evaluate(student, task, mixed_precision="no")}.items() <= found.items()


def test_agreement_token_by_token_is_refused(tmp_path: Path) -> None:
    file = str(write_questions(tmp_path, 6))
    task = load_task(TaskArguments("squad_v2", train_file=file, validation_file=file, max_seq_length=48, doc_stride=8))
    teacher = save_tiny(tmp_path / "teacher", AutoModelForQuestionAnswering)
    student = save_student(tmp_path / "student", AutoModelForQuestionAnswering)
    with pytest.raises(InputError, match="as task squad_v2 compares the predictions for each token, got two"):
        evaluate(student, task, teacher_name_or_path=teacher)
