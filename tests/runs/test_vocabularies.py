"""Recipes whose teacher and student have different tokenizers, or embedding tables of different sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from ted_distill import InputError, read_recipe, run
from ted_distill.cli.main import main
from ted_distill.export.which_task import comparing_task
from ted_distill.models.load import ModelArguments
from ted_distill.runs.planning import plan, plan_stages
from ted_distill.training.trainer import StageTrainer
from tiny import CLASSES, save_tiny, tiny_tokenizer, write_entities, write_questions, write_reviews, write_text

QUICK = {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True, "use_cpu": True}
TASKS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sequence_classification": (write_reviews, AutoModel, {}),
    "squad_v2": (write_questions, AutoModelForQuestionAnswering, {"max_seq_length": 64, "doc_stride": 8}),
    "token_classification": (write_entities, AutoModelForTokenClassification, {}),
    "masked_lm": (write_text, AutoModelForMaskedLM, {"max_seq_length": 16}),
}


def with_another_word(folder: Path) -> Path:
    """The same model with one more token in its tokenizer; its embedding table has room for it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["opera"])
    tokenizer.save_pretrained(folder)
    return folder


def write_recipe(folder: Path, task: str = "sequence_classification", **changes: Any) -> Path:
    write, auto_class, own = TASKS[task]
    recipe = {
        "task": task,
        "train_file": str(write(folder, 12, "train")),
        "validation_file": str(write(folder, 12, "validation")),
        "output_dir": str(folder / "run"),
        "teacher": str(save_tiny(folder / "big", auto_class, blocks=4)),
        "student": str(with_another_word(save_tiny(folder / "small", auto_class, blocks=2, seed=1))),
        "training": QUICK,
        **own,
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, **changes}), encoding="utf-8")
    return file


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test ends where anything is trained."""
    monkeypatch.setattr(StageTrainer, "fit", lambda self: pytest.fail("trained"))


@pytest.mark.parametrize("command", ["show", "run"])
@pytest.mark.parametrize("task", TASKS)
def test_a_student_with_other_words_is_refused_before_anything_is_trained(
    task: str, command: str, untrained: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_recipe(tmp_path, task, methods=["kd", "ted"])
    capsys.readouterr()
    assert main([command, str(file)]) == 2
    problems = [line for line in capsys.readouterr().err.splitlines() if line.startswith("- ")]
    assert len(problems) == 1
    assert problems[0].startswith(
        f"- tokenizers: expected one for both {tmp_path / 'big'} (teacher) and {tmp_path / 'small'} (student), as "
    )
    assert ("use only method kd" in problems[0]) == (task == "sequence_classification")
    assert not (tmp_path / "run").exists()


def test_a_students_blocks_do_not_change_what_it_reads(untrained: None, tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, student_layers=[1, 2], methods=["lwd"]))
    for start in (plan, run):
        with pytest.raises(InputError, match=r"the states of each token are compared \(lwd\)"):
            start(recipe)
    assert not (tmp_path / "run").exists()


def test_other_problems_are_reported_with_it(untrained: None, tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path, methods=["lwd"], pairs=[[5, 1]]))
    for start in (plan, run):
        with pytest.raises(InputError) as refusal:
            start(recipe)
        assert len(refusal.value.problems) == 2


def test_kd_of_classes_runs_with_two_tokenizers_and_the_plan_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_recipe(tmp_path, methods=["kd"], teacher_filter_interval=3)  # of no meaning to KD
    assert main(["show", str(file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pairs none, as no method matches layers" in said
    assert "tokens teacher and student have different tokenizers: each gets its own tokens of the same rows" in said
    results = run(read_recipe(file))
    assert 0 <= results["kd"]["accuracy"] <= 100
    assert "opera" in (tmp_path / "run" / "kd" / "tokenizer.json").read_text(encoding="utf-8")
    assert not list((tmp_path / "run").glob("*_filters"))


def test_kd_needs_no_blocks_that_divide(tmp_path: Path) -> None:
    teacher = save_tiny(tmp_path / "five", AutoModel, blocks=5)
    found = plan(read_recipe(write_recipe(tmp_path, methods=["kd"], teacher=str(teacher))))
    assert found.pairs == []
    assert found.filters == {}
    assert [stage.name for stage in plan_stages(found)] == ["finetune_teacher", "finetune_student", "alone", "kd"]


def test_the_teachers_tokenizer_must_allow_the_rows_too(untrained: None, tmp_path: Path) -> None:
    file = write_recipe(tmp_path, methods=["kd"], max_seq_length=40)
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(tmp_path / "big")
    with pytest.raises(InputError, match=r"expected 3 to 32 tokens, which the tokenizer .*big and its model allow"):
        plan(read_recipe(file))


def test_a_teacher_made_from_scratch_reads_what_no_other_student_does(untrained: None, tmp_path: Path) -> None:
    """Its tokenizer is known only once it has been made, which is still before anything is trained."""
    student = save_tiny(tmp_path / "other", AutoModelForCausalLM, "gpt2")
    scratch = {"model_type": "gpt2", "n_embd": 12, "n_layer": 2, "n_head": 2, "vocab_size": 300}
    recipe = {
        "task": "causal_lm", "max_seq_length": 16, "train_file": str(write_text(tmp_path)),
        "validation_file": str(write_text(tmp_path)), "output_dir": str(tmp_path / "run"), "student": str(student),
        "from_scratch": scratch, "training": QUICK, "methods": ["kd"],
    }  # fmt: skip
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    for _ in range(2):  # and the second time before that
        with pytest.raises(InputError, match=r"tokenizers: expected one for both .*teacher_init \(teacher\) and"):
            run(read_recipe(file))
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["recipe.yaml", "run.log", "teacher_init"]


@pytest.mark.parametrize("start", [plan, run])
def test_a_model_with_fewer_rows_than_the_tokenizer_has_tokens_is_refused(
    start: Any, untrained: None, tmp_path: Path
) -> None:
    file = write_recipe(tmp_path, "masked_lm", methods=["kd"])
    save_tiny(tmp_path / "big", AutoModelForMaskedLM, blocks=4, vocab_size=32)
    with_another_word(tmp_path / "big")
    with pytest.raises(InputError, match=r"expected a vocab_size of more than 32 in the config of .*big"):
        start(read_recipe(file))
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_a_padding_token_takes_that_of_the_config_before_a_run_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The plan, the draft and made-up rows read the model's tokenizer without the model."""
    folder = save_tiny(tmp_path / "gpt2", AutoModelForSequenceClassification, "gpt2", 4, pad_token_id=0, **CLASSES)
    tokenizer = tiny_tokenizer(token_type_ids=False)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    rows = str(write_reviews(tmp_path, 24))
    assert main(["init", str(folder), "--train_file", rows, "-o", str(tmp_path / "drafted.yaml")]) == 0
    assert main(["show", str(tmp_path / "drafted.yaml"), f"output_dir={tmp_path / 'run'}"]) == 0
    assert caplog.text.count("taking the one in the model's config: [PAD]") == 1
    task, split, made_up = comparing_task(str(folder), "sequence_classification", None, ModelArguments())
    assert made_up
    assert len(task.rows[split]) > 0
