"""`ted check` on tiny models: what it says, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModel, AutoModelForSequenceClassification, BertPreTrainedModel

from small_runs import TASKS, made, write_recipe
from ted_distill import InputError, TrainingError, read_recipe, run
from ted_distill.cli.main import main
from ted_distill.runs import run as runs
from ted_distill.runs.checking import Report, examine, rehearsal
from ted_distill.runs.checking import memory as memory_of
from ted_distill.runs.checking.examine import WHOLE
from ted_distill.runs.planning import plan, plan_stages
from ted_distill.runs.run import check_recipe
from ted_distill.training.fitting_memory import RECOMPUTES
from tiny import CLASSES, save_tiny, tiny_tokenizer, write_reviews


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that is taken as it is, although its weights are random, and a student of two of its blocks."""
    folder = tmp_path_factory.mktemp("recipe")
    save_tiny(folder / "teacher", AutoModelForSequenceClassification, blocks=4, **CLASSES)
    content = {
        "task": "sequence_classification", "train_file": str(write_reviews(folder, 48, "train")),
        "validation_file": str(write_reviews(folder, 24, "validation")), "teacher": str(folder / "teacher"),
        "student_layers": [2, 4], "methods": ["kd", "ted"], "finetune_teacher": False,
        "output_dir": str(folder / "run"),
        "training": {"per_device_train_batch_size": 8, "report_to": "none", "disable_tqdm": True, "use_cpu": True},
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def checked(recipe: Path) -> tuple[Report, list[str], bool]:
    """The report, the files there are afterwards, and whether the random states were the same before and after."""
    before = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    report = check_recipe(read_recipe(recipe))
    after = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    return report, sorted(file.name for file in recipe.parent.iterdir()), before == after


def test_a_check_leaves_files_and_random_states_as_they_were(checked: tuple[Report, list[str], bool]) -> None:
    _, files, same = checked
    assert files == ["recipe.yaml", "teacher", "train.jsonl", "validation.jsonl"]
    assert same


def test_the_report_has_every_fact_and_every_stage(checked: tuple[Report, list[str], bool]) -> None:
    report = checked[0]
    assert not report.problems
    assert {"teacher", "student", "labels", "scores", "tokens", "sizes", "pairs", "time", "memory", "disk"} <= {
        name for name, fact in report.facts.items() if fact
    }
    assert report.facts["labels"].startswith("bad, good (as in the teacher); train: 48 rows")
    assert report.facts["pairs"].startswith("teacher 2 (16) : student 1 (16), teacher 4 (16) : student 2 (16); matched")
    assert "kd" not in report.facts["pairs"]
    assert [row[0] for row in report.stages] == ["stage", "learn_filters_teacher", "alone", "kd", "ted"]
    assert report.seconds
    assert report.seconds > 0


def test_a_teacher_with_random_weights_is_a_doubt_and_overlap_is_another(
    checked: tuple[Report, list[str], bool],
) -> None:
    doubts = checked[0].doubts
    assert any("got 24 of 24 (100.0 %) whose text is in the training rows" in doubt for doubt in doubts)
    assert any("it was never fine-tuned on it" in doubt for doubt in doubts)
    assert len(doubts) == len(set(doubts)) == 2


def test_the_command_prints_doubts_last_and_ends_with_0(
    recipe: Path, checked: tuple[Report, list[str], bool], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(runs, "check_recipe", lambda recipe: checked[0])
    assert main(["check", str(recipe)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("task ")
    assert lines[-3] == "2 doubts"


def test_problems_end_the_command_with_2_after_the_report(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    found = Report({"time": "1 min"}, doubts=["rows: few"], problems=["memory: expected less, got more"])
    monkeypatch.setattr(runs, "check_recipe", lambda recipe: found)
    assert main(["check", str(recipe)]) == 2
    shown = capsys.readouterr()
    assert "- rows: few" in shown.out
    assert "invalid input\n- memory: expected less, got more" in shown.err


def test_a_recipe_that_a_run_refuses_is_refused_without_loading_anything(recipe: Path) -> None:
    with pytest.raises(InputError, match="student_layers"):
        check_recipe(read_recipe(recipe, ["student_layers=[2,9]"]))


def test_a_teacher_without_a_head_is_refused_with_a_recipe_s_remedy(recipe: Path, tmp_path: Path) -> None:
    save_tiny(tmp_path / "plain", AutoModel, blocks=4)
    with pytest.raises(InputError, match=r"never fine-tuned; take finetune_teacher: false out"):
        check_recipe(read_recipe(recipe, [f"teacher={tmp_path / 'plain'}"]))


def test_a_student_larger_than_its_teacher_is_a_doubt_of_a_check_and_of_a_plan(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_tiny(tmp_path / "small", AutoModelForSequenceClassification, blocks=2, **CLASSES)
    large = yaml.safe_load(recipe.read_text(encoding="utf-8"))["teacher"]
    same = ["student_layers=null", "methods=[kd]", "training.num_train_epochs=1"]
    plan(read_recipe(recipe, [*same, f"teacher={large}", f"student={tmp_path / 'small'}"]))
    assert "swap" not in caplog.text
    swapped = read_recipe(recipe, [*same, f"teacher={tmp_path / 'small'}", f"student={large}"])
    assert any(
        re.search(r"student: expected at most .* in 2 blocks, got .* in 4 blocks; swap", doubt)
        for doubt in check_recipe(swapped).doubts
    )
    caplog.clear()
    plan(swapped)
    assert "swap teacher and student" in caplog.text


def test_a_schedule_that_ends_above_the_rate_of_the_rehearsal_is_rehearsed(recipe: Path) -> None:
    schedule = ["lr_scheduler_type=polynomial", "lr_scheduler_kwargs={lr_end: 2e-5}", "learning_rate=1e-4"]
    report = examined(recipe, "methods=[kd]", *(f"training.{word}" for word in schedule))
    assert not report.problems
    assert [row[0] for row in report.stages] == ["stage", "alone", "kd"]


# --- what goes wrong in a stage -----------------------------------------------------------------------------------


def examined(recipe: Path, *changes: str) -> Report:
    return examine(plan(read_recipe(recipe, [*changes])), WHOLE)


def test_a_warm_up_as_long_as_the_training_is_a_doubt_of_a_check_and_of_a_plan(
    recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan_stages(plan(read_recipe(recipe, ["kd.warmup_steps=500"])))
    assert "stage kd: warmup_steps: expected fewer than the" in caplog.text


def test_each_stage_that_fails_is_a_problem_of_its_own(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, planned: Any) -> Any:
        if planned.name == "kd":
            raise torch.OutOfMemoryError("too much")
        raise TrainingError(f"no numbers in {planned.name}")

    monkeypatch.setattr(rehearsal.Rehearsal, "stage", fails)
    problems = examined(recipe).problems
    assert len(problems) == 4
    assert problems[0].startswith(
        "stage learn_filters_teacher: expected its trainer to make a few steps, got TrainingError (no numbers in "
    )
    assert "memory: expected a step of stage kd to fit into" in problems[2]
    assert "per_device_train_batch_size" in problems[2]


def test_a_methods_own_interval_is_rehearsed_with_the_pairs_of_the_plan(recipe: Path) -> None:
    report = examined(recipe, "student_layers=[1, 2, 4]", "methods=[lwd]", "lwd.filter_interval=1")
    assert not report.problems


def test_a_step_that_would_end_the_process_is_not_tried(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_of, "there", lambda device: 1000)
    report = examined(recipe)
    assert not report.stages
    assert sum("an estimate; no step was tried" in doubt for doubt in report.doubts) == 4


def test_only_stages_that_can_compute_activations_again_are_told_to(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_of, "there", lambda device: 1000)
    told = [RECOMPUTES in doubt for doubt in examined(recipe).doubts if "no step was tried" in doubt]
    assert told == [False, True, True, True], "a frozen model keeps no activations"
    on = examined(recipe, f"training.{RECOMPUTES}=true").doubts
    monkeypatch.setattr(BertPreTrainedModel, "supports_gradient_checkpointing", False)
    doubts = [doubt for doubt in (*on, *examined(recipe).doubts) if "no step was tried" in doubt]
    assert len(doubts) == 8
    assert all(doubt.endswith("or lower max_seq_length") for doubt in doubts)


def test_the_memory_of_a_student_alone_holds_no_teacher(recipe: Path) -> None:
    found = plan(read_recipe(recipe))
    memory = {stage.name: stage.memory for stage in plan_stages(found)}
    teacher = found.models["teacher"].parameters
    assert memory["alone"] + 4 * teacher < memory["kd"]


def test_more_memory_than_there_is_is_a_problem(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_of, "there", lambda device: 10**9)
    monkeypatch.setattr(memory_of, "peak", lambda device: 2 * 10**9)
    (problem,) = examined(recipe, "methods=[alone]").problems
    assert problem.startswith("memory: expected at most 1.0 GB, got 2.0 GB in a step of stage alone;")


# --- at the start of a run ------------------------------------------------------------------------------------------


def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry for each look of a run that does nothing else."""
    found: list[bool] = []
    monkeypatch.setattr(runs.RunOfRecipe, "look", lambda self: found.append(True))
    monkeypatch.setattr(runs.RunOfRecipe, "results", lambda self, before: {})
    return found


def test_a_run_looks_at_its_models_unless_it_is_told_not_to(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looks(monkeypatch)
    run(read_recipe(recipe))
    run(read_recipe(recipe, ["check=false"]))
    assert found == [True]


def test_a_run_that_goes_on_does_not_look_again(recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = looks(monkeypatch)
    monkeypatch.setattr(runs.RunOfRecipe, "check", lambda self: None)
    (tmp_path / "run" / "teacher_filters").mkdir(parents=True)
    (tmp_path / "run" / "teacher_filters" / "settings.json").write_text("{}")
    run(read_recipe(recipe, [f"output_dir={tmp_path / 'run'}"]))
    assert not found


def test_a_run_says_its_doubts_before_the_first_stage(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runs.RunOfRecipe, "results", lambda self, before: {})
    run(read_recipe(recipe))
    (said,) = [record.getMessage() for record in caplog.records if "doubt" in record.getMessage()]
    assert said.startswith("scores: accuracy on 24 validation rows: teacher ")
    assert "doubt: teacher: expected a model fine-tuned on this task" in said
    # Eighteen updates a stage are over before they are measured.
    assert "time:" not in said


@pytest.mark.long
def test_a_run_after_a_check_gives_the_same_bytes_as_one_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "BRIEF", WHOLE)
    file = write_recipe(tmp_path, "sequence_classification", num_train_epochs=1)
    for name, changes in (("with", []), ("without", ["check=false"])):
        run(read_recipe(file, changes, output_dir=str(tmp_path / name)))
    with_check, without = made(tmp_path / "with"), made(tmp_path / "without")
    assert with_check.keys() == without.keys()
    assert [name for name in without if with_check[name] != without[name]] == []


@pytest.mark.long
@pytest.mark.parametrize("task", sorted({*TASKS} - {"sequence_classification"}))
def test_every_kind_of_task_can_be_checked(task: str, tmp_path: Path) -> None:
    report = check_recipe(read_recipe(write_recipe(tmp_path, task), output_dir=str(tmp_path / "run")))
    assert not report.problems
    assert len(report.stages) == 9
    assert not (tmp_path / "run").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [
        ["student_hidden_size=8", "ted.student_filters=learned"],
        ["methods=[attention,ted_attention]", "start_from=finetuned"],
        ["finetune_teacher={}", "training.gradient_accumulation_steps=2", f"training.{RECOMPUTES}=true"],
        ["distill.learning_rate=auto", "training.cache_limit=0", "training.eval_strategy=no"],
    ],
    ids=["narrower", "relations", "accumulated", "searched"],
)
def test_recipes_of_every_kind_can_be_checked(recipe: Path, changes: list[str]) -> None:
    report = check_recipe(read_recipe(recipe, changes))
    assert not report.problems
    assert len(report.stages) > 4


@pytest.mark.long
def test_models_with_other_tokenizers_a_stream_and_a_teacher_from_scratch_can_be_checked(
    recipe: Path, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "student", AutoModelForSequenceClassification, blocks=2, **CLASSES)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["opera"])
    tokenizer.save_pretrained(tmp_path / "student")
    given = ["student_layers=null", f"student={tmp_path / 'student'}", "methods=[kd]"]
    report = check_recipe(read_recipe(recipe, given))
    assert "each model has its own tokenizer" in report.facts["tokens"]
    assert len(report.stages) == 4
    text = tmp_path / "text.txt"
    text.write_text("the film was very good. the book was not bad.\n" * 200)
    content = {
        "task": "causal_lm", "train_file": str(text), "validation_file": str(text), "max_seq_length": 16,
        "from_scratch": {"model_type": "gpt2", "n_layer": 4, "n_embd": 16, "n_head": 2, "vocab_size": 400},
        "student_layers": [2, 4], "methods": ["kd", "ted"], "output_dir": str(tmp_path / "run"),
        "training": {"per_device_train_batch_size": 4, "use_cpu": True, "max_steps": 7},
    }  # fmt: skip
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(content))
    for changes in ([], ["streaming=true", "training.eval_strategy=no"]):
        report = check_recipe(read_recipe(file, changes))
        assert not report.problems
        assert [row[1] for row in report.stages] == ["updates", *["7"] * 5]
