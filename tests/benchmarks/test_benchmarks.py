from __future__ import annotations

import importlib.util
import json
import shlex
from contextlib import contextmanager

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import pipeline
import step_report
import step_trainers
import steps
from step_flops import SHAPES, head_flops, model_flops, step_flops
from step_trainers import Job

TINY = SHAPES["tiny"]
HAS_SILVERSPOON = importlib.util.find_spec("silverspoon_kd") is not None
HAS_TEXTBREWER = importlib.util.find_spec("textbrewer") is not None


# --- operations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task_name", ["classification", "qa"])
def test_operations_of_a_model_are_those_torch_counts(task_name):
    task = step_trainers.make_task(Job("plain", {}, task=task_name, length=8))
    model = step_trainers.make_model("teacher", TINY.teacher, TINY, task).model
    ids = torch.randint(5, TINY.vocabulary, (3, 8))
    with FlopCounterMode(display=False) as forward:
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    with FlopCounterMode(display=False) as backward:
        sum(output.sum() for output in outputs.values()).backward()
    expected = model_flops(TINY.teacher, 3, 8, TINY.positions(8)) + head_flops(TINY.teacher, task_name, 3, 8)
    assert forward.get_total_flops() == expected
    assert backward.get_total_flops() == 2 * expected


@pytest.mark.parametrize(("stage", "task"), [(1, "classification"), (1, "qa"), (2, "classification"), (2, "qa")])
def test_operations_of_a_step_are_those_torch_counts(stage, task, tmp_path):
    job = Job("plain", steps.PLAIN, shapes="tiny", stage=stage, task=task, length=8, batch_size=4, steps=1)
    loaded_task = step_trainers.make_task(job)
    teacher = step_trainers.make_model("teacher", TINY.teacher, TINY, loaded_task)
    student = step_trainers.make_model("student", TINY.student, TINY, loaded_task)
    arguments = step_trainers.make_arguments(job, str(tmp_path))
    features = step_trainers.make_features(job).select(range(4))
    trainer = step_trainers.make_trainer(stage, loaded_task, teacher, student, features, arguments)
    with FlopCounterMode(display=False) as counter:
        trainer.train()
    assert trainer.state.global_step == 1
    # Stage I looks at the model's own logits too, though no loss needs them.
    unneeded = head_flops(TINY.teacher, task, 4, 8) if stage == 1 else 0
    assert counter.get_total_flops() == step_flops(TINY, stage, task, 4, 8) + unneeded


def test_no_more_positions_are_counted_than_there_are():
    shapes = SHAPES["base-xsmall"]
    assert [shapes.positions(length) for length in (32, 256, 384)] == [63, 511, 512]


# --- the command ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_variants_are_timed_and_written(tmp_path, capsys):
    file = tmp_path / "steps.json"
    options = shlex.split("--shapes tiny --stages 2 --lengths 8 --steps 2 --warmup 1 --variants plain default --json")
    assert steps.main([*options, str(file)]) == 0
    table = capsys.readouterr().out
    assert "Stage II, classification, batches of 8" in table
    measured = json.loads(file.read_text())
    assert measured["bf16_flops_per_second"] > 0
    assert measured["versions"]["torch"] == torch.__version__
    plain, default = measured["results"]
    assert (plain["variant"], default["variant"]) == ("plain", "default")
    assert plain["arguments"]["bf16"] is False
    assert default["arguments"] == {}
    for result in measured["results"]:
        assert (len(result["warmup_seconds"]), len(result["seconds"])) == (1, 2)
        assert all(seconds > 0 for seconds in result["seconds"])
        assert 1e8 < result["peak_bytes"] < 1e10
        assert result["flops"] == step_flops(TINY, 2, "classification", 8, 8)


@pytest.mark.skipif(not HAS_TEXTBREWER, reason="textbrewer is not installed")
def test_textbrewer_takes_its_turn(capsys):
    options = "--shapes tiny --stages 2 --lengths 8 --steps 2 --epochs 2 --task qa --variants textbrewer"
    assert steps.main(shlex.split(options)) == 0
    assert "epoch 2" in capsys.readouterr().out


def test_what_was_measured_before_a_failure_is_kept(monkeypatch, tmp_path, capsys):
    class Rate:
        def ask(self, message):
            return {"flops_per_second": 1e9}

    @contextmanager
    def started(jobs):
        yield [(Rate(), {"versions": {}, "threads": 1, "device_name": None})]

    def measure_together(jobs, options):
        if jobs[0]["length"] == 16:
            raise steps.WorkerError("plain: the process ended")
        return [{"length": 8, "variant": "plain", "stage": 2, "seconds": [1.0], "peak_bytes": 1, "flops": 1}]

    monkeypatch.setattr(steps, "started", started)
    monkeypatch.setattr(steps, "measure_together", measure_together)
    file = tmp_path / "steps.json"
    options = ["--stages", "2", "--lengths", "8", "16", "--variants", "plain", "--json", str(file)]
    assert steps.main(options) == 1
    assert "plain: the process ended" in capsys.readouterr().err
    assert [result["length"] for result in json.loads(file.read_text())["results"]] == [8]


@pytest.mark.parametrize(
    "name", ["fast", "default+fast", "default+nonsense=1", "textbrewer+compile", "silverspoon+compile"]
)
def test_unknown_variants_are_refused(name, capsys):
    assert steps.main(["--variants", "plain", name]) == 2
    assert f"--variants: {name}: " in capsys.readouterr().err


@pytest.mark.skipif(not HAS_SILVERSPOON, reason="silverspoon-kd is not installed")
@pytest.mark.parametrize("task", ["classification", "qa"])
def test_silverspoon_takes_its_turn(task, capsys):
    options = f"--shapes tiny --stages 2 --lengths 8 --steps 2 --warmup 1 --task {task} --variants silverspoon"
    assert steps.main(shlex.split(options)) == 0
    assert "silverspoon" in capsys.readouterr().out


@pytest.mark.parametrize(("variant", "package"), steps.PACKAGES.items())
def test_a_package_that_is_missing_is_named(variant, package, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert steps.main(["--variants", "plain", variant]) == 2
    assert f"--variants: {variant}: pip install {package}" in capsys.readouterr().err


def test_packages_that_are_missing_are_left_out_if_none_was_named(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert steps.read_options([]).variants == ["plain", "default"]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "textbrewer is left out: pip install textbrewer", "silverspoon is left out: pip install silverspoon-kd",
    ]  # fmt: skip
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert steps.read_options([]).variants == ["plain", "default", "textbrewer", "silverspoon"]


def test_fields_can_be_set_on_the_command_line():
    arguments = steps.variant_arguments("plain+compile+bf16=true+cache_limit=2.5")
    assert arguments == steps.PLAIN | {"torch_compile": True, "bf16": True, "cache_limit": 2.5}


def test_a_whole_run_may_have_workers():
    assert pipeline.variant_fields("default+workers=2+bf16=true") == {"bf16": True, "workers": 2}
    assert pipeline.variant_fields("plain") == steps.PLAIN
    for wrong in ("default+workers=0", "default+workers=x", "default+workers="):
        with pytest.raises(steps.VariantError, match="a whole number of at least 1"):
            pipeline.variant_fields(wrong)


# --- whole runs -----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_whole_runs_are_timed_and_written(tmp_path, capsys):
    file = tmp_path / "pipeline.json"
    options = shlex.split("--shapes tiny --max_train_samples 16 --max_eval_samples 8 --epochs 1 --json")
    assert pipeline.main([*options, str(file)]) == 0
    assert "plain/default" in capsys.readouterr().out
    measured = json.loads(file.read_text())
    assert measured["versions"]["torch"] == torch.__version__
    assert measured["rows"] == {"train": 16, "validation": 8}
    plain, default = measured["runs"]
    assert (plain["variant"], default["variant"]) == ("plain", "default")
    assert plain["arguments"]["cache_limit"] == 0
    assert default["arguments"] == {}
    stages = ["teacher", "student", "teacher_filters", "student_filters", "alone", "ted"]
    for run in measured["runs"]:
        assert list(run["scores"]) == stages
        assert list(run["seconds"]) == [*stages, "all else", "total", "CPU"]
        assert run["seconds"]["total"] > sum(run["seconds"][stage] for stage in stages) > 0
        assert 1e8 < run["bytes"]["peak memory"] < 1e11
    assert plain["bytes"]["most in caches"] == 0
    assert default["bytes"]["most on disk"] > default["bytes"]["most in caches"] > 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("--train_file a.csv", "--train_file, --validation_file: expected both or none"),
        ("--task cola", "--task: the made-up sentences are for sst2"),
        ("--shapes tiny --max_seq_length 65", "--max_seq_length: expected at most 64 tokens"),
        ("--variants plain textbrewer", "--variants: textbrewer does not do all stages"),
        ("--repeats 0", "--repeats: expected at least 1, got 0"),
    ],
)
def test_whole_runs_that_make_no_sense_are_refused(options, problem, capsys):
    with pytest.raises(SystemExit, match="2"):
        pipeline.main(shlex.split(options))
    assert problem in capsys.readouterr().err


# --- the tables -----------------------------------------------------------------------------------------------


def test_ratios_are_to_plain_at_the_same_length():
    runs = [
        {"length": length, "variant": variant, "seconds": seconds, "peak_bytes": peak, "flops": 2e9}
        for length, variant, seconds, peak in (
            (8, "plain", [4.0, 2.0, 9.0], 3e9),
            (8, "default", [1.0, 2.0, 1.5], 2e9),
            (16, "default", [3.0], 2e9),
        )
    ]
    _, plain, default, alone = step_report.steps_table(runs, rate=4e9)
    assert plain == ["8", "plain", "2.000", "1.00x", "4.000", "1.00x", "3.00", "1.00x", "2.0", "25.0%"]
    assert default == ["8", "default", "1.000", "2.00x", "1.500", "2.67x", "2.00", "1.50x", "2.0", "50.0%"]
    assert [cell for cell in alone if cell == "-"] == ["-"] * 3


def test_the_first_step_of_all_is_in_no_epoch():
    assert step_report.epoch_means({"seconds": [9.0, 1.0, 2.0, 3.0, 4.0, 6.0]}, epochs=3) == [1.0, 2.5, 5.0]
