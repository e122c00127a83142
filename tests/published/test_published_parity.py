from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from datasets import Dataset

import published_parity as parity  # a script, found once its folder is on the path
from golden_case import Form, write_case
from ted_distill.errors import InputError
from ted_distill.method.losses import class_kl, score_mse
from ted_distill.published.losses import as_published
from ted_distill.tasks import load_task
from ted_distill.tasks.glue import GLUE

GOLDEN = Path(__file__).parents[1] / "data" / "published"


# --- the published code's own numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["qa", "cls3"])
def test_the_published_numbers_come_out_in_both_precisions(case, capsys):
    assert parity.main([str(GOLDEN / case)]) == 0
    assert "all within their limits" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["qa", "cls3"])
def test_they_come_out_on_a_padded_batch_when_padding_counts(case):
    errors = parity.measure(GOLDEN / case, "padded", torch.float64)
    limits = parity.LIMITS[torch.float64]
    assert {name: error for name, error in errors.items() if not error.value <= limits[error.kind]} == {}


def test_a_changed_number_is_found_and_nothing_else(tmp_path, capsys):
    folder = tmp_path / "case"
    shutil.copytree(GOLDEN / "cls3", folder)
    golden = json.loads((folder / "golden_fp64.json").read_text())
    stage1, stage2 = golden["full"]["stage1"]["teacher"], golden["full"]["stage2"]
    stage1["trajectory"][3] *= 1 + 1e-11
    stage1["filter_states"][2]["row1_pos3"][1] += 1e-8
    stage2["ted"]["student_grads"]["filters.1.bias"][1] *= 1 + 1e-8
    stage2["lwd"]["final_student_params"]["classifier.weight"][0] = float("nan")
    stage2["kd"]["trajectory"][5]["kl_loss"] *= 1 + 1e-11
    del stage2["lwd"]["student_grads"]["classifier.bias"]
    (folder / "golden_fp64.json").write_text(json.dumps(golden))
    assert parity.main([str(folder)]) == 1
    beyond = [" ".join(line.split()[:3]) for line in capsys.readouterr().out.splitlines() if "beyond" in line]
    assert beyond == [
        "stage1 teacher filter_states",
        "stage1 teacher trajectory",
        "stage2 ted gradients",
        "stage2 lwd gradients",
        "stage2 lwd final_parameters",
        "stage2 kd trajectory",
    ]


def test_a_directory_without_a_case_is_refused(tmp_path, capsys):
    assert parity.main([str(tmp_path)]) == 2
    assert "case.json" in capsys.readouterr().err


# --- other forms of a case: see golden_case.py for what these can show, and what not ------------------------


@pytest.mark.parametrize(
    "form",
    [
        Form(num_labels=2, teacher_blocks=6, teacher_filter_interval=3),
        Form(task="reg", num_labels=1, filter_nonlinear=True),
        Form(task="reg", num_labels=1, student_blocks=5, student_filter_interval=2),
        Form(num_labels=7, teacher_blocks=5, student_blocks=5, filter_output_dim=6),
        Form(task="qa", student_blocks=4, student_filter_interval=2, student_width=16, filter_output_dim=None),
        Form(task="qa", teacher_blocks=7, teacher_filter_interval=3, filter_nonlinear=True, filter_output_dim=12),
    ],
    ids=["binary", "regression-nonlinear", "student-interval", "five-pairs", "unset-dim", "qa-nonlinear"],
)
def test_every_form_of_a_case_is_handled(form, tmp_path, capsys):
    code = parity.main([str(write_case(tmp_path / "case", form))])
    assert code == 0, capsys.readouterr().out


# --- the options ----------------------------------------------------------------------------------------------


def test_padding_counts_only_as_published():
    batch = {"attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]]), "labels": torch.tensor([0, 1])}
    task = load_task("mrpc")
    assert task.counts(batch).tokens == 3
    assert as_published(task).counts(batch).tokens == 6


def test_the_kl_of_scores_is_over_the_batch_only_as_published():
    student, teacher = torch.tensor([[0.5], [1.5], [-1.0]]), torch.tensor([[0.0], [2.0], [1.0]])
    task = load_task("stsb")
    assert task.match(student, teacher, {}, 2.0, None) == score_mse(student, teacher)
    over_batch = as_published(task).match(student, teacher, {}, 2.0, None)
    torch.testing.assert_close(over_batch, class_kl(student.T, teacher.T, 2.0) / 3)
    shares = sum(as_published(task).match(student, teacher, {}, 2.0, torch.tensor(6.0)) for _ in range(2))
    torch.testing.assert_close(shares, over_batch)


def test_the_class_loss_rounds_to_float32_only_as_published():
    logits, batch = torch.tensor([[0.1, 0.7]], dtype=torch.float64), {"labels": torch.tensor([1])}
    task = load_task("sst2")
    assert task.loss(logits, batch).dtype == torch.float64
    assert as_published(task).loss(logits, batch).dtype == torch.float32


def test_as_published_keeps_what_a_task_is_otherwise():
    for name in GLUE:
        task, published = load_task(name), as_published(load_task(name))
        assert (published.label_names, published.num_labels, published.metric, published.hub_dataset()) == (
            task.label_names, task.num_labels, task.metric, task.hub_dataset(),
        )  # fmt: skip
    assert as_published(load_task("squad_v2")).version_2_with_negative


def test_a_task_the_published_code_does_not_have_is_refused():
    with pytest.raises(InputError, match="multi_label"):
        as_published(load_task("multi_label_classification"))


def test_the_rows_that_a_task_was_given_stay():
    rows = Dataset.from_dict({"text": ["a film", "a book"], "label": [0.5, 1.5]})
    task = as_published(load_task("regression", train=rows, validation=rows))
    assert task.rows["train"]["text"][:] == ["a film", "a book"]
