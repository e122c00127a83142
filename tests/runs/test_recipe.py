"""Runs: a recipe's stages in one folder, the table at the end, and the published recipe and scripts."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from ted_distill import InputError, TaskArguments, check_recipe, evaluate, finetune, load_task, read_recipe, run
from ted_distill.cli.compare import read_compare
from ted_distill.cli.flags import parse_flags
from ted_distill.cli.main import main
from ted_distill.cli.recipes import read_run
from ted_distill.cli.stages import OneModel
from ted_distill.models.load import ModelArguments
from ted_distill.runs.planning import plan, plan_stages
from ted_distill.runs.recipe import make_recipe, stage_arguments
from ted_distill.runs.recipe_files import find_recipe, recipe_files
from ted_distill.runs.recorded import recorded_text
from ted_distill.runs.run import RunOfRecipe
from ted_distill.runs.run_arguments import RunArguments
from ted_distill.runs.table import results_table
from ted_distill.stages.methods import METHODS
from ted_distill.training.stage_arguments import StageArguments
from tiny import save_tiny, write_questions, write_reviews

KNOWN = ", ".join(METHODS)

ROOT = Path(__file__).parents[2]
QUICK = {
    "max_steps": 2,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "disable_tqdm": True,
    "use_cpu": True,
    "fp16": False,
}


def tiny_recipe(folder: Path, **changes: Any) -> Path:
    """A recipe of all stages on reviews."""
    recipe = {
        "task": "sequence_classification",
        "train_file": str(write_reviews(folder, 24, "train")),
        "validation_file": str(write_reviews(folder, 12, "validation")),
        "output_dir": str(folder / "run"),
        "teacher": str(save_tiny(folder / "big", AutoModelForSequenceClassification, blocks=4)),
        "student": str(save_tiny(folder / "small", AutoModelForSequenceClassification, blocks=2, width=8, seed=1)),
        "training": QUICK,
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**recipe, **changes}), encoding="utf-8")
    return file


def settings(stage: Path) -> dict[str, Any]:
    """What a finished stage has recorded of itself."""
    recorded: dict[str, Any] = json.loads((stage / "settings.json").read_text(encoding="utf-8"))
    return recorded


def test_a_run_ends_with_one_table_of_all_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tiny_recipe(tmp_path)), "report=false"]) == 0
    assert not (tmp_path / "run" / "report.md").exists()
    out = capsys.readouterr().out
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("|")]
    assert table[0] == ["model", "accuracy", "f1_macro", "parameters", "seconds", "folder"]
    assert [row[0] for row in table[2:]] == ["teacher", "student, fine-tuned", "student alone", "KD", "LWD", "TED"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert table[2][1] == f"{results['teacher']['accuracy']:.2f}"
    teacher = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "teacher")
    assert table[2][3] == f"{sum(p.numel() for p in teacher.parameters()):,}"
    folders = [row[-1].removesuffix(", best") for row in table[2:]]
    assert folders == ["teacher", "student", "alone", "kd", "lwd", "ted"]
    assert sum(row[-1].endswith(", best") for row in table[2:]) == 1
    assert (tmp_path / "run" / "results.md").read_text().splitlines()[0] in out


def test_finished_stages_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd"])
    first = run(read_recipe(recipe))
    stages = [file for file in (tmp_path / "run").rglob("*.safetensors") if file.parent.name != "best"]
    written = {file: file.stat().st_mtime_ns for file in stages}
    caplog.clear()
    again = run(read_recipe(recipe, ["methods=[kd,lwd]"]))
    assert {**again["kd"], "best": None} == {**first["kd"], "best": None}
    assert caplog.text.count("is finished, skipped") == 4
    assert all(file.stat().st_mtime_ns == time for file, time in written.items())


def test_a_finished_stage_with_other_settings_is_refused_and_left_alone(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd"])
    run(read_recipe(recipe))
    before = (tmp_path / "run" / "kd" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"kl_alpha was 1.0, now 9.0"):
        run(read_recipe(recipe, ["kd.kl_alpha=9"]))
    assert (tmp_path / "run" / "kd" / "model.safetensors").read_bytes() == before


def test_what_only_concerns_the_screen_may_change_between_two_starts(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd"])
    run(read_recipe(recipe))
    assert run(read_recipe(recipe, ["training.logging_steps=7"]))["kd"]


def test_the_most_specific_section_wins(tmp_path: Path) -> None:
    recipe = read_recipe(
        tiny_recipe(
            tmp_path,
            training={"learning_rate": 1e-5, "seed": 3},
            finetune={"learning_rate": "2e-5"},
            finetune_student={"learning_rate": 3e-5},
        )
    )
    rates = {}
    for stage in ("finetune_teacher", "finetune_student", "learn_filters_teacher", "ted"):
        args, _ = stage_arguments(recipe, stage)
        rates[stage] = args.learning_rate
        assert args.seed == 3
    assert rates == {"finetune_teacher": 2e-5, "finetune_student": 3e-5, "learn_filters_teacher": 1e-5, "ted": 1e-5}


def test_a_student_can_be_made_of_the_teachers_blocks(tmp_path: Path) -> None:
    backbone = save_tiny(tmp_path / "backbone", AutoModel, blocks=4)
    recipe = tiny_recipe(tmp_path, teacher=str(backbone), student=None, student_layers=[2, 4])
    results = run(read_recipe(recipe))
    assert results["ted"]["parameters"] < results["teacher"]["parameters"]
    assert not (tmp_path / "run" / "student").exists()
    # They are made of the fine-tuned teacher, or of the model as it was before.
    run(read_recipe(recipe, [f"output_dir={tmp_path / 'raw'}", "start_from=finetuned", "methods=[kd]"]))
    for whole, made in (("run/teacher", "run/student_init"), ("backbone", "raw/student_init")):
        check_blocks(AutoModel.from_pretrained(tmp_path / whole), AutoModel.from_pretrained(tmp_path / made))
    head = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "teacher").classifier.weight
    made = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "student_init")
    assert torch.equal(made.classifier.weight, head)
    assert settings(tmp_path / "run" / "ted")["identity"]["distill"]["pairs"] == [[2, 1], [4, 2]]
    assert (
        results["student"]["accuracy"]
        == evaluate(tmp_path / "run" / "student_init", load_task(read_recipe(recipe).task))["accuracy"]
    )


def check_blocks(whole: Any, made: Any) -> None:
    """Blocks 2 and 4 are those of a student."""
    for student_block, teacher_block in ((0, 1), (1, 3)):
        taken = whole.encoder.layer[teacher_block].state_dict()
        assert all(torch.equal(taken[name], t) for name, t in made.encoder.layer[student_block].state_dict().items())


def test_a_student_of_all_the_teachers_blocks_scores_as_the_teacher_does(tmp_path: Path) -> None:
    backbone = save_tiny(tmp_path / "backbone", AutoModel, blocks=2)
    results = run(
        read_recipe(tiny_recipe(tmp_path, teacher=str(backbone), student=None, student_layers=[1, 2], methods=["kd"]))
    )
    for score in ("accuracy", "f1_macro"):
        assert results["student"][score] == results["teacher"][score]


def test_a_student_of_the_teachers_blocks_is_not_fine_tuned_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="recipe section finetune_student: expected none, as the student is made of"):
        read_recipe(tiny_recipe(tmp_path, student=None, student_layers=[1], finetune_student={"learning_rate": 1e-3}))
    with pytest.raises(InputError, match="start_from: expected finetuned or pretrained with a student"):
        read_recipe(tiny_recipe(tmp_path, start_from="teacher"))


def test_a_teacher_that_is_fine_tuned_already_is_only_scored(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd"])
    teacher = tmp_path / "run" / "teacher"
    run(read_recipe(recipe))
    results = run(
        read_recipe(recipe, [f"output_dir={tmp_path / 'other'}", "finetune_teacher=false", f"teacher={teacher}"])
    )
    expected = json.loads((teacher / "all_results.json").read_text())["accuracy"]
    assert results["teacher"]["accuracy"] == expected
    assert not (tmp_path / "other" / "teacher" / "model.safetensors").exists()


def test_methods_can_start_from_the_raw_student(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd", "ted"], start_from="pretrained")
    run(read_recipe(recipe))
    assert settings(tmp_path / "run" / "ted")["places"]["student"] == "small"
    with pytest.raises(InputError, match="expected finetuned with student_filters learned of method ted, as Stage I"):
        read_recipe(recipe, ["ted.student_filters=learned"])


def test_blocks_of_the_model_that_the_teacher_was_fine_tuned_from_are_matched_as_they_were_copied(
    tmp_path: Path,
) -> None:
    file = tiny_recipe(tmp_path, methods=["hidden"], student_layers=[1, 4], start_from="pretrained")
    task = load_task(read_recipe(file).task)
    teacher, raw = tmp_path / "tuned", tmp_path / "big"
    finetune(raw, task, StageArguments(str(teacher), **QUICK))
    given = [f"teacher={teacher}", f"student={raw}", "finetune_teacher=false"]
    recipe = read_recipe(file, given)
    for section in ([], ["hidden.filter_interval=1"]):
        planned = plan_stages(plan(read_recipe(file, [*given, *section])))[-1]
        assert planned.method is not None
        assert planned.method.pairs == [(1, 1), (4, 2)]
    # A run that has other pairs, as former versions chose, is not mixed with it.
    run(read_recipe(file, [*given, "pairs=[2:1, 4:2]"]))
    with pytest.raises(InputError, match="distill pairs was"):
        run(recipe)
    assert settings(tmp_path / "run" / "hidden")["identity"]["distill"]["pairs"] == [[2, 1], [4, 2]]
    run(read_recipe(file, [*given, f"output_dir={tmp_path / 'again'}"]))
    assert settings(tmp_path / "again" / "hidden")["identity"]["distill"]["pairs"] == [[1, 1], [4, 2]]


def test_a_methods_own_interval_gives_the_pairs_of_the_same_interval_of_the_run(tmp_path: Path) -> None:
    save_tiny(tmp_path / "stranger", AutoModelForSequenceClassification, blocks=4, seed=9)
    changes = {"student": str(tmp_path / "stranger"), "student_layers": [1, 4], "start_from": "pretrained"}
    file = tiny_recipe(tmp_path, **changes, methods=["hidden", "ted"])
    known = plan(read_recipe(file, ["hidden.filter_interval=1", "ted.filter_interval=1"]))
    methods = {stage.name: stage.method for stage in plan_stages(known) if stage.method}
    assert methods["hidden"].pairs == methods["ted"].pairs == known.pairs == [(2, 1), (4, 2)]


def test_a_run_that_is_not_what_was_required_shows_its_table_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd"])
    assert main(["run", str(recipe), "--require", "kd.accuracy > 100", "finetune_student=false"]) == 4
    shown = capsys.readouterr()
    assert "| teacher " in shown.out
    assert f"{tmp_path}/run/results.md" in shown.out
    assert str(tmp_path / "run" / "report.md") in shown.out
    assert shown.err.rstrip().splitlines()[-1].startswith("ted run: require: does not hold: kd.accuracy > 100")


def test_blocks_of_a_teacher_that_is_fine_tuned_already_are_no_pretrained_start(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, methods=["kd"], student=None, student_layers=[1], start_from="pretrained")
    assert read_recipe(recipe).run.start == "pretrained"
    with pytest.raises(InputError, match="start_from: expected student, the model that the teacher was fine-tuned"):
        read_recipe(recipe, ["finetune_teacher=false"])


@pytest.mark.parametrize("form", ["nested", "flat"])
def test_overrides_of_the_student_win_however_the_recipe_and_they_are_written(form: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"student": {"layers": [1, 2], "trim": "train"}}
    if form == "flat":
        given = {"student": None, "student_layers": [1, 2], "student_trim": "train"}
    recipe = tiny_recipe(tmp_path, methods=["kd"], **given)
    for words, student, layers in (
        (["student=elsewhere"], "elsewhere", [1, 2]),
        (["student.layers=[1]"], None, [1]),
        (["student_layers=[1]"], None, [1]),
        (["student.model=elsewhere"], "elsewhere", [1, 2]),
    ):
        read = read_recipe(recipe, words).run
        assert (read.student, read.student_layers, read.student_trim) == (student, layers, "train"), words
    read = read_recipe(recipe, ["student={layers: [1]}"]).run
    assert (read.student, read.student_layers, read.student_trim) == (None, [1], None), "this is all of it"
    with pytest.raises(InputError, match=r"unknown key student\.layrs; did you mean layers"):
        read_recipe(recipe, ["student.layrs=[1]"])


def test_null_takes_out_what_a_students_section_says_too() -> None:
    given = {"task": "sst2", "teacher": "x", "student": {"layers": [1]}, "student_layers": None}
    assert make_recipe(given, output_dir="x").run.student_layers == [1]


def test_a_moved_file_of_further_data_is_not_silently_another_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
        write_reviews(folder, 6, "extra.1")
    monkeypatch.chdir(here)
    extra = {"task": "sequence_classification", "validation_file": "extra.1.jsonl"}
    recipe = {"task": "sst2", "teacher": "x", "student_layers": [1], "score_on": {"extra.1": extra}}
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    text = recorded_text({**recipe, "output_dir": str(run_folder)}, "# a recipe\n", run_folder)
    (run_folder / "recipe.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    with caplog.at_level(logging.WARNING):
        assert "extra.1.jsonl" in str(read_recipe(run_folder / "recipe.yaml").content)
    assert not caplog.text, "it is where it was"
    (here / "extra.1.jsonl").unlink()
    with caplog.at_level(logging.WARNING):
        read_recipe(run_folder / "recipe.yaml")
    assert "score_on.extra.1.validation_file: expected" in caplog.text
    assert "taking the one of this name" in caplog.text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"techer": "x", "student": "y"}, ["recipe: unknown key techer; did you mean teacher?"]),
        ({"teacher": "x", "student_layer": [1]}, ["recipe: unknown key student_layer; did you mean student_layers?"]),
        ({"teacher": "x", "student": {"layrs": [1]}}, ["recipe: unknown key student.layrs; did you mean layers?"]),
    ],
)
def test_what_is_there_under_a_misspelt_name_is_not_called_missing_too(given: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(InputError) as error:
        make_recipe({"task": "sst2", **given}, output_dir="x")
    assert error.value.problems == said


@pytest.mark.parametrize(
    ("section", "key", "place"),
    [
        ("ted", "filter_init", "filter_init, outside of any section"),
        ("training", "max_seq_length", "max_seq_length, outside of any section"),
        ("distill", "student_layers", "student_layers, outside of any section"),
        ("finetune", "kl_alpha", "distill.kl_alpha (all methods), or that of one, as ted.kl_alpha"),
        ("learn_filters", "layer_loss", "distill.layer_loss (all methods), or that of one, as ted.layer_loss"),
        ("learn_filters", "frozen_dropout", "--frozen_dropout of `ted learn-filters`, which no recipe has"),
    ],
)
def test_a_key_in_the_wrong_section_is_refused_with_its_place(section: str, key: str, place: str) -> None:
    with pytest.raises(InputError) as error:
        make_recipe({"task": "sst2", "teacher": "x", "student_layers": [1], section: {key: "x"}}, output_dir="x")
    assert error.value.problems == [f"recipe section {section}: unknown key {key}; did you mean {place}?"]


def test_a_fine_tuning_may_be_asked_for_by_true(tmp_path: Path) -> None:
    read = read_recipe(tiny_recipe(tmp_path, finetune_teacher=True))
    assert read.tunes("teacher")
    assert read.stage("finetune_teacher") == QUICK


def test_further_data_whose_name_has_a_dot_can_be_overridden(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, score_on={"v1.1": {"task": "sst2"}})
    content = read_recipe(recipe, ["score_on.v1.1.max_eval_samples=3"]).content["score_on"]
    assert content == {"v1.1": {"task": "sst2", "max_eval_samples": 3}}


def test_numbers_of_numpy_are_numbers_in_a_recipe_from_python(tmp_path: Path) -> None:
    content = yaml.safe_load(tiny_recipe(tmp_path).read_text())
    content["distill"] = {"learning_rate": np.float64(1e-4), "max_steps": np.int64(2), "bf16": np.bool_(False)}
    recipe = make_recipe({**content, "student": None, "student_layers": np.array([1])})
    assert type(recipe.content["distill"]["learning_rate"]) is float
    assert recipe.run.student_layers == [1]
    assert "learning_rate: 0.0001" in recorded_text(recipe.content, "# head\n", tmp_path)


def test_null_removes_a_section_or_a_key(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, score_on={"more": {"task": "sst2"}}, kd={"kl_alpha": 9}, filter_output_dim=16)
    read = read_recipe(recipe, ["score_on=null", "kd=null", "filter_output_dim=null"])
    assert not {"score_on", "kd", "filter_output_dim"} & set(read.content)
    assert read.stage("kd") == QUICK


def test_the_values_of_a_recipe_have_the_types_of_their_fields(tmp_path: Path) -> None:
    sections = """
pairs: [[2, 1], [4, 2]]
config_overrides: 3
finetune: {eval_strategy: no, save_strategy: no, learning_rate: 1e-3, max_steps: 4.0}
ted: {kl_alpha: 3, lr_scheduler_type: cosine_with_min_lr, lr_scheduler_kwargs: {min_lr: 1e-6}}
from_scratch: {model_type: bert, layer_norm_eps: 1e-5}
"""
    file = tiny_recipe(tmp_path, teacher=None)
    file.write_text(file.read_text(encoding="utf-8") + sections, encoding="utf-8")
    recipe = read_recipe(file)
    assert recipe.run.pairs == ["2:1", "4:2"]
    assert recipe.model.config_overrides == "3"
    assert recipe.content["from_scratch"] == {"model_type": "bert", "layer_norm_eps": 1e-5}
    args, model = stage_arguments(recipe, "finetune_student")
    assert (args.eval_strategy, args.learning_rate, args.max_steps) == ("no", 1e-3, 4)
    assert model.config_overrides == "3"
    args, distillation = stage_arguments(recipe, "ted")
    assert args.lr_scheduler_kwargs == {"min_lr": 1e-6}
    assert (distillation.kl_alpha, distillation.method) == (3.0, "ted")


def test_all_problems_of_a_recipe_come_in_one_message_each_once_and_where_it_stands(tmp_path: Path) -> None:
    sections: dict[str, Any] = {
        "label_column": ["a", "b"],
        "training": {**QUICK, "learning_rate": "fast", "optim": "adam"},
        "distill": {"temperature": [2], "epochs": 3},
        "kd": {"bf16": 2},
        "ted": None,
        "finetune_teacher": "yes",
        "score_on": {"more": {"task": "sst2", "doc_stride": "x"}, "other": 3},
        "from_scratch": {1: 2, "model_type": "gpt2"},
        "methods": ["kd", "tad"],
    }
    with pytest.raises(InputError) as error:
        read_recipe(tiny_recipe(tmp_path, teacher=None, **sections))
    problems = error.value.problems
    for problem in (
        "recipe: label_column: expected text, got ['a', 'b']",
        "recipe section finetune_teacher: expected `key: value` lines, got 'yes'",
        "recipe section score_on.more: doc_stride: expected a whole number, got 'x'",
        "recipe section score_on.other: expected keys of a task, `task` among them, got 3",
        "recipe section from_scratch: expected names of config fields, got 1",
        "recipe section distill: unknown key epochs; did you mean debug?",
        "recipe section training: learning_rate: expected a number above 0 and at most 10, or auto, got 'fast'",
        "recipe section distill: temperature: expected a number, got [2]",
        "recipe section kd: bf16: expected true or false, got 2",
    ):
        assert problem.partition(";")[0] in [found.partition(";")[0] for found in problems]
    (optim,) = [problem for problem in problems if "optim" in problem]
    assert optim.startswith("recipe section training: optim: expected one of adamw_torch, ")
    assert f"recipe: methods: expected one or more of {KNOWN}, got 'tad'; did you mean ted?" in problems
    assert len(problems) == 11


def test_a_section_that_two_names_share_is_changed_for_one_of_them(tmp_path: Path) -> None:
    file = tiny_recipe(tmp_path)
    file.write_text(file.read_text(encoding="utf-8") + "lwd: &shared {kl_alpha: 1}\nted: *shared\n", encoding="utf-8")
    recipe = read_recipe(file, ["ted.kl_alpha=2"])
    assert [stage_arguments(recipe, method)[1].kl_alpha for method in ("lwd", "ted")] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024_01_05", "2024_01_05"), ("1.10", "1.10"), ("runs/exp #2", "runs/exp #2"), ("a: b", "a: b"), ("|", "|"),
        ("yes", "yes"), ("#text", "#text"), ("'in quotes'", "in quotes"), ("null", None), ("Null", None), ("", None),
    ],
)  # fmt: skip
def test_a_text_in_an_override_is_what_it_looks_like(tmp_path: Path, written: str, meant: str | None) -> None:
    overrides = [f"text_column={written}", f"training.run_name={written}", "training.seed=7"]
    content = make_recipe(yaml.safe_load(tiny_recipe(tmp_path).read_text()), overrides).content
    assert content.get("text_column") == meant
    assert content["training"] | {"seed": 7} == content["training"]
    assert content["training"].get("run_name") == meant


def test_the_word_off_for_a_strategy_is_what_it_is_in_a_file(tmp_path: Path) -> None:
    recipe = read_recipe(tiny_recipe(tmp_path), ["training.eval_strategy=off", "training.save_strategy=no"])
    assert stage_arguments(recipe, "kd")[0].eval_strategy == "no"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ted", "override: expected key=value, got 'ted'"),
        ("=1", "override: expected key=value, got '=1'"),
        ("ted.kl_alpha=[1", "override ted.kl_alpha: not valid YAML"),
        ("ted.kl_alpha=" + "[" * 5000, "override ted.kl_alpha: expected at most"),
        ("output_dir.x=1", "recipe: output_dir: expected text, got {'x': 1}"),
        (
            "methods=3",
            f"recipe: methods: expected one or more of {KNOWN}, got '3'",
        ),
        ("start_from=x", "recipe: start_from: expected one of teacher, finetuned, pretrained, got 'x'"),
        ("from_scratch.model_type=bert", "recipe: expected teacher or from_scratch, got both; remove one"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(tiny_recipe(tmp_path), [override])
    assert message in str(error.value)


def test_the_rate_that_a_search_found_is_no_score() -> None:
    result = {"metric": "accuracy", "accuracy": 80.0, "learning_rate": 3e-4, "parameters": 10, "seconds": 1.0}
    assert "learning_rate" not in results_table({"teacher": result})


def test_small_errors_are_told_apart_in_the_table() -> None:
    results = {
        name: {"metric": "spearmanr", "spearmanr": 80.0, "mse": mse, "parameters": 10, "seconds": 1.0}
        for name, mse in (("teacher", 0.0011), ("kd", 0.0049))
    }
    table = results_table(results)
    assert "|     80.00 |" in table
    assert "0.0011" in table
    assert "0.0049" in table


def test_the_table_lists_scores_in_percent_with_the_deciding_one_first() -> None:
    common = {"metric": "f1", "parameters": 1000, "steps": 3, "total": 9, "best_f1": 99.0, "HasAns_total": 5}
    table = results_table(
        {
            "teacher": {"exact_match": 50.0, "f1": 61.234, "seconds": 12.3, **common},
            "ted": {
                "exact_match": 40.0,
                "f1": 51.0,
                "seconds": 7.0,
                "search_seconds": 9.0,
                "stage_one_seconds": 5.0,
                **common,
            },
        }
    )
    header = [cell.strip() for cell in table.splitlines()[0].split("|")[1:-1]]
    assert header == ["model", "f1", "exact_match", "parameters", "seconds"]
    assert "61.23" in table
    assert "7 + 9 search + 5 Stage I" in table
    assert "99" not in table


@pytest.mark.parametrize("file", recipe_files().values(), ids=lambda file: file.stem)
def test_every_recipe_that_comes_with_the_project_is_read_without_a_problem(file: Path, tmp_path: Path) -> None:
    made = "from_scratch" in yaml.safe_load(file.read_text(encoding="utf-8"))
    named = [f"output_dir={tmp_path}", *([] if made else ["teacher=x"])]
    recipe = read_recipe(file, [*named, "training.fp16=false", "training.bf16=false"])
    assert {"alone", "kd", "lwd", "ted"} <= {*recipe.run.methods}
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert "ted run recipes/" in file.read_text(encoding="utf-8")


# --- the published experiment -----------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path) -> dict[str, Path]:
    """Tiny DeBERTa-v2 models and SQuAD 2.0-like files in the place of the real ones."""
    return {
        "teacher": save_tiny(tmp_path / "base", AutoModelForQuestionAnswering, "deberta-v2", blocks=2),
        "student": save_tiny(tmp_path / "xsmall", AutoModelForQuestionAnswering, "deberta-v2", blocks=2, width=8),
        "train_file": write_questions(tmp_path, 9, "train"),
        "validation_file": write_questions(tmp_path, 6, "validation"),
    }


@pytest.mark.long
def test_the_published_recipe_runs_on_tiny_models_of_the_same_family(
    published: dict[str, Path], tmp_path: Path
) -> None:
    overrides = {
        **published,
        "output_dir": tmp_path / "run",
        "max_seq_length": 64,
        "doc_stride": 8,
        "filter_output_dim": 16,
    }
    quick = {f"{section}.{key}": value for section in SECTIONS for key, value in QUICK.items()}
    words = [f"{key}={value}" for key, value in {**overrides, **quick}.items()]
    results = run(read_recipe(ROOT / "recipes/squad_v2/deberta-v3-base-to-xsmall.yaml", words))
    assert list(results) == ["teacher", "student", "alone", "kd", "lwd", "ted"]
    identity = settings(tmp_path / "run" / "ted")["identity"]
    weights = [identity["distill"][name] for name in ("kl_alpha", "mse_alpha", "temperature")]
    assert weights == [10.0, 5000.0, 2.0]
    assert identity["arguments"]["max_grad_norm"] == "0.0"
    width = load_file(tmp_path / "run" / "student_filters" / "filters.safetensors")["filters.0.weight"].shape
    assert width == (16, 8)


SECTIONS = (
    "finetune_teacher", "finetune_student", "learn_filters_teacher", "learn_filters_student", "alone", "kd", "lwd",
    "ted",
)  # fmt: skip


@pytest.mark.long
def test_the_three_scripts_hand_over_their_outputs_and_run_on_tiny_models(
    published: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for `ted` records the command lines of the scripts, which are then run in this process."""
    record = tmp_path / "record"
    shim = tmp_path / "bin" / "ted"
    shim.parent.mkdir()
    shim.write_text(
        '#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done >> "$RECORD"\necho END >> "$RECORD"\n'
    )
    shim.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "RECORD": str(record),
        "TEACHER": str(published["teacher"]),
        "STUDENT": str(published["student"]),
        "OUT": str(tmp_path / "out"),
        "FILTER_OUTPUT_DIM": "16",
        "PRECISION": "",
    }
    flags = ["--train_file", str(published["train_file"]), "--validation_file", str(published["validation_file"])]
    flags += ["--max_steps", "1", "--max_seq_length", "64", "--doc_stride", "8", "--disable_tqdm", "true"]
    for script in ("finetune.sh", "learn_filters.sh", "ted.sh"):
        subprocess.run([ROOT / "scripts" / script, *flags], env=environment, check=True)
    commands = [lines.splitlines() for lines in record.read_text().split("END\n")[:-1]]
    assert [command[0] for command in commands] == ["finetune", "finetune", "learn-filters", "learn-filters", "distill"]
    for command in commands:
        assert main(command) == 0, capsys.readouterr().err
    assert AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out" / "ted").config.hidden_size == 8


def test_two_ways_to_choose_blocks_are_refused_by_the_names_of_the_recipe() -> None:
    with pytest.raises(InputError, match=r"expected it or student_num_layers, got both; .* student_num_layers=null"):
        RunArguments(teacher="a", output_dir="b", student_layers=[2], student_num_layers=1)


def test_a_run_in_place_of_its_recipe_is_told_where_that_is(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: sst2\n")
    with pytest.raises(InputError, match=r"its recipe is .*recipe\.yaml"):
        find_recipe(tmp_path)


def test_texts_that_look_like_numbers_are_what_the_file_says(tmp_path: Path) -> None:
    content = yaml.safe_load(tiny_recipe(tmp_path).read_text())
    content |= {"output_dir": "OUT", "score_on": {"more": {"task": "sst2", "dataset_revision": "REVISION"}}}
    text = yaml.safe_dump({**content, "model_revision": "VERSION", "text_column": "COLUMN", "from_scratch": None})
    file = tmp_path / "numbers.yaml"
    for name, number in (("OUT", "2024_11_05"), ("REVISION", "1_0"), ("VERSION", "1.10"), ("COLUMN", "3.50")):
        text = text.replace(name, number)
    file.write_text(text + "max_seq_length: 1_6\n")
    recipe = read_recipe(file)
    assert recipe.run.output_dir == "2024_11_05"
    assert recipe.model.model_revision == "1.10"
    assert (recipe.task.text_column, recipe.task.max_seq_length) == ("3.50", 16)
    assert recipe.content["score_on"]["more"]["dataset_revision"] == "1_0"
    # What is recorded gives the same recipe.
    file.write_text(yaml.safe_dump(recipe.content))
    assert read_recipe(file) == recipe


def test_texts_that_look_like_numbers_are_what_the_file_says_for_a_stage_too(tmp_path: Path) -> None:
    file = tmp_path / "stage.yaml"
    file.write_text("output_dir: 2024_11_05\nmodel_revision: 1.10\nmax_steps: 1_0\n")
    (args, model) = parse_flags("x", (StageArguments, ModelArguments), ["--config", str(file)])
    assert (args.output_dir, model.model_revision, args.max_steps) == ("2024_11_05", "1.10", 10)


def test_a_tilde_is_the_home_folder_wherever_a_recipe_names_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(write_reviews(tmp_path, 4, "elsewhere").parent)
    places = {"output_dir": "~/run", "teacher": "~/big", "student": "~/small", "train_file": "~/train.jsonl"}
    more = {"more": {"task": "sst2", "dataset_name": "~/hub"}}
    recipe = read_recipe(tiny_recipe(tmp_path, **places, score_on=more, training={**QUICK, "cache_dir": "~/cache"}))
    run_of = RunOfRecipe(recipe)
    assert (recipe.run.output_dir, recipe.run.teacher) == (str(tmp_path / "run"), str(tmp_path / "big"))
    assert run_of.at.folder == tmp_path / "run"
    assert run_of.at.arguments("ted")[0].output_dir == str(tmp_path / "run" / "ted")
    assert run_of.at.arguments("ted")[0].cache_dir == str(tmp_path / "cache")
    assert recipe.task.train_file == str(tmp_path / "train.jsonl")
    assert run_of.further["more"].arguments.dataset_name == str(tmp_path / "hub")
    assert read_recipe(tiny_recipe(tmp_path, student="~/small")).run.student == str(tmp_path / "small")
    assert TaskArguments("sst2", dataset_name="~/hub").dataset_name == str(tmp_path / "hub")
    file = tmp_path / "stage.yaml"
    file.write_text("model_name_or_path: ~/big\noutput_dir: ~/out\n")
    (model, args) = parse_flags("x", (OneModel, StageArguments), ["--config", str(file)])
    assert (model.model_name_or_path, args.output_dir) == (str(tmp_path / "big"), str(tmp_path / "out"))


def test_variables_in_paths_have_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("NAME_1", "big")
    monkeypatch.delenv("NOWHERE", raising=False)
    places = {"output_dir": "$SCRATCH/run", "teacher": "${SCRATCH}/$NAME_1", "train_file": "${SCRATCH}/$1.jsonl"}
    recipe = read_recipe(tiny_recipe(tmp_path, **places, training={**QUICK, "cache_dir": "$SCRATCH/cache"}))
    assert recipe.run.output_dir == str(tmp_path / "run")
    assert recipe.run.teacher == str(tmp_path / "big")
    assert recipe.task.train_file == str(tmp_path / "$1.jsonl"), "which is no variable"
    assert stage_arguments(recipe, "kd")[0].cache_dir == str(tmp_path / "cache")
    with pytest.raises(InputError) as refused:
        read_recipe(tiny_recipe(tmp_path, output_dir="$NOWHERE/run", train_file="$SCRATCH/${NOWHERE}.csv"))
    assert "output_dir: expected the variables in $NOWHERE/run to be set, got no NOWHERE;" in str(refused.value)
    assert "train_file: expected the variables in $SCRATCH/${NOWHERE}.csv to be set" in str(refused.value)


def test_a_file_whose_name_has_a_dollar_sign_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    file = tmp_path / "in$NOWHERE.csv"
    file.write_text("text,label\na,b\n")
    assert TaskArguments("sst2", train_file=str(file)).train_file == str(file)


# --- recorded ------------------------------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a recipe that a run has recorded, whose folder is behind a link; other rows lie where the link
    would lead to if it were followed word by word.
    """
    project, disk = tmp_path / "project", tmp_path / "disk" / "deep" / "runs"
    for folder in (project / "data", disk / "x", tmp_path / "disk" / "data", tmp_path / "data"):
        folder.mkdir(parents=True)
    for folder in (project, tmp_path / "disk", tmp_path):
        (folder / "data" / "t.csv").write_text("text,label\na,b\n", encoding="utf-8")
    (project / "runs").symlink_to(disk)
    monkeypatch.chdir(project)
    content = {"task": "sequence_classification", "teacher": "big", "student_layers": [1], "train_file": "data/t.csv",
               "dataset_name": "data", "output_dir": "runs/x"}  # fmt: skip
    text = recorded_text(content, "# A head.\n", Path("runs/x"))
    (project / "runs" / "x" / "recipe.yaml").write_text(text, encoding="utf-8")
    return project


def test_a_recorded_recipe_means_the_same_files_from_everywhere(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = read_recipe("runs/x/recipe.yaml")
    assert (here.task.train_file, here.run.output_dir) == ("data/t.csv", "runs/x")
    monkeypatch.chdir(tmp_path)
    there = read_recipe("project/runs/x/recipe.yaml")
    assert there.task.train_file == str(recorded / "data" / "t.csv")
    assert there.task.dataset_name == str(recorded / "data")
    assert there.run.output_dir == str(recorded / "runs" / "x")
    assert there.run.teacher == "big", "which is nowhere, as a name of the Hub is"


def test_a_recorded_folder_may_have_a_variable(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", str(recorded / "runs"))
    file = recorded / "runs" / "x" / "recipe.yaml"
    file.write_text(file.read_text().replace("output_dir: runs/x", "output_dir: $SCRATCH/x"))
    monkeypatch.chdir(tmp_path)
    assert read_recipe(file).task.train_file == str(recorded / "data" / "t.csv")


@pytest.mark.parametrize(("place", "stage"), [("", "teacher"), ("compare", "seed-1/kd")])
def test_a_recipe_of_a_folder_that_was_moved_is_refused_unless_its_folder_is_given(
    place: str, stage: str, recorded: Path
) -> None:
    """Otherwise a run would make everything again where it was once."""
    now = recorded / "moved" / place
    (now / stage).mkdir(parents=True)
    shutil.copyfile(recorded / "runs" / "x" / "recipe.yaml", now / "recipe.yaml")
    file = str(now / "recipe.yaml")
    assert read_run([file])[0].run.output_dir == "runs/x", "beside which are no stages"
    (now / stage / "settings.json").write_text("{}", encoding="utf-8")
    moved = recorded / "moved"
    wanted = f"output_dir: expected {moved}, .* got runs/x, .*; give output_dir={moved}, or output_dir=runs/x to go on"
    for read in (lambda: read_run([file]), lambda: read_compare([file]), lambda: check_recipe(file)):
        with pytest.raises(InputError, match=wanted):
            read()
    for given in ("runs/x", str(moved)):
        assert read_run([file, f"output_dir={given}"])[0].run.output_dir == given
    (now / "recipe.yaml").rename(now / "mine.yaml")
    assert read_run([str(now / "mine.yaml")])[0].run.output_dir == "runs/x"


def test_a_copy_of_a_recorded_recipe_means_what_it_says(recorded: Path) -> None:
    (recorded / "recipes").mkdir()
    shutil.copyfile(recorded / "runs" / "x" / "recipe.yaml", recorded / "recipes" / "mine.yaml")
    assert read_recipe("recipes/mine.yaml").task.train_file == "data/t.csv"


def test_a_recipe_from_python_is_recorded_as_it_is_read_back(tmp_path: Path) -> None:
    content = {"task": "sequence_classification", "teacher": "big", "student_layers": [1], "train_file": "t.csv",
               "label_column": 1, "distill": {"pair_weights": [1, 2.5]}, "output_dir": str(tmp_path)}  # fmt: skip
    made = make_recipe(content)
    (tmp_path / "recipe.yaml").write_text(recorded_text(made.content, "# A head.\n", tmp_path), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.yaml").content == made.content


def test_paths_may_be_paths(tmp_path: Path) -> None:
    content = {"task": "sst2", "teacher": tmp_path / "teacher", "train_file": tmp_path / "a.csv", "student_layers": [1]}
    made = make_recipe({**content, "output_dir": tmp_path / "run", "distill": {"cache_dir": tmp_path / "cache"}})
    assert made.task.train_file == str(tmp_path / "a.csv")
    assert made.content["distill"] == {"cache_dir": str(tmp_path / "cache")}


def test_a_file_that_lies_beside_the_recipe_and_not_here_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of a recipe are as they are seen from the current folder."""
    (tmp_path / "here").mkdir()
    (tmp_path / "rows.csv").write_text("text,label\na,x\nb,y\n")
    keys = {"task": "sequence_classification", "teacher": "big", "train_file": "rows.csv", "student_layers": [1]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(keys))
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match=r"got rows\.csv, which lies beside the recipe; write train_file="):
        read_recipe("../r.yaml")
    assert read_recipe("../r.yaml", ["train_file=../rows.csv"]).task.train_file == "../rows.csv"
    monkeypatch.chdir(tmp_path)
    assert read_recipe("r.yaml").task.train_file == "rows.csv"
