"""The table of commands: what each prints, how its words are read, and which exit code it ends with."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from inspect import getdoc
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import BertConfig, BertForSequenceClassification

from ted_distill import InputError, TrainingError
from ted_distill.cli import main as table
from ted_distill.cli import recipes
from ted_distill.cli.command import Command
from ted_distill.cli.dialect import changes, content_of
from ted_distill.cli.main import COMMANDS, USAGE, main
from ted_distill.cli.recipes import next_of_run
from ted_distill.demo.run_demo import DEFAULT_FOLDER
from ted_distill.export.folders import beside
from ted_distill.models.given import as_name
from ted_distill.progress import Terminated
from ted_distill.runs.commands import FORMATS
from ted_distill.runs.recipe_files import recipe_files
from ted_distill.stages.methods import METHODS
from ted_distill.tasks import TASKS, describe_task
from ted_distill.tasks.descriptions import DESCRIPTIONS
from ted_distill.tasks.glue import GLUE
from ted_distill.tasks.token_classification import TAGGED
from tiny import tiny_tokenizer

KNOWN = ", ".join(METHODS)


def test_the_overview_has_a_line_for_every_command() -> None:
    lines = [line for line in USAGE.splitlines() if line.startswith("  ted ")]
    assert [line.split()[1] for line in lines] == list(COMMANDS)
    for line, command in zip(lines, COMMANDS.values(), strict=True):
        assert command.usage in line
        assert line.endswith(f"  {command.title}")
        assert len(line) <= 120


def test_every_command_says_what_its_flags_are_or_reads_its_own_words() -> None:
    for name, command in COMMANDS.items():
        assert command.usage.split()[0] == name
        assert command.run.__doc__
        assert (command.read is None) == bool(command.kinds())
        assert bool(command.help) == (command.read is not None)


def test_help_names_the_formats_of_a_plan_and_the_folder_of_the_demo() -> None:
    """They are written there once more, so that help needs no torch."""
    assert f"[--format {'|'.join(FORMATS)}]" in recipes.PLAN_HELP
    assert f"Runs in {DEFAULT_FOLDER};" in recipes.DEMO_HELP


def test_the_help_of_every_command_without_flags_is_printed_without_importing_torch_or_transformers() -> None:
    names = [name for name, command in COMMANDS.items() if command.read]
    code = (
        "import sys; from ted_distill.cli.main import main; "
        f"assert all(main([name, '-h']) == 0 for name in {names}); "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    helped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert helped.returncode == 0, helped.stderr
    assert helped.stdout.count("usage: ted ") == len(names)


def test_the_help_is_printed_without_importing_torch_or_transformers() -> None:
    code = (
        "import sys; from ted_distill.cli.main import main; main(['--help']); main(['--version']); "
        "sys.exit(bool({'torch', 'transformers', 'pydantic'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_tasks_and_recipes_are_listed_without_importing_torch_or_transformers() -> None:
    code = (
        "import sys; from ted_distill.cli.main import main; main(['list']); "
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stderr
    assert all(f"  {name} " in listed.stdout for name in TASKS)


def test_the_line_of_a_task_is_the_first_of_its_class() -> None:
    assert list(DESCRIPTIONS) == list(TASKS)
    data_sets = {*GLUE, *TAGGED, "squad", "squad_v2", "lambada"}
    for name in TASKS.keys() - data_sets:
        assert DESCRIPTIONS[name] == (getdoc(TASKS[name]) or "").split("\n")[0]
    assert all(describe_task(name) == line for name, line in DESCRIPTIONS.items())


def test_well_known_flags_are_described_in_few_words(capsys: pytest.CaptureFixture[str]) -> None:
    main(["finetune", "--help"])
    assert "random seed" in capsys.readouterr().out
    main(["finetune", "--help-all"])
    said = capsys.readouterr().out
    assert "random seed" in said
    assert "hide NaN and infinite losses" in said


# --- exit codes -----------------------------------------------------------------------------------------------


def fail(error: BaseException) -> Callable[..., Any]:
    def run(*_: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("data: expected rows, got none"), 2, "ted x: invalid input\n- data: expected rows, got none\n"),
        (TrainingError("the loss is NaN"), 1, "ted x: the loss is NaN\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command resumes from what is saved\n"),
        (Terminated(), 143, "ended by SIGTERM; the same command resumes from what is saved\n"),
    ],
)
def test_what_goes_wrong_while_a_command_runs_decides_the_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Command("x", "does x", fail(error), read=lambda words: tuple(words), trains=True)
    monkeypatch.setitem(table.COMMANDS, "x", command)
    assert main(["x", "word"]) == code
    assert capsys.readouterr().err == said


def test_only_what_is_refused_before_a_training_says_that_nothing_was_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = fail(InputError("bad"))
    for command, said in (
        (Command("x", "", bad, read=lambda words: (), trains=True), "invalid input\n"),
        (Command("x", "", bad, read=lambda words: ()), "invalid input\n"),
        (Command("x", "", print, read=bad, trains=True), "invalid input; nothing was trained\n"),
    ):
        monkeypatch.setitem(table.COMMANDS, "x", command)
        assert main(["x"]) == 2
        assert capsys.readouterr().err == f"ted x: {said}- bad\n"


def test_a_command_that_printed_its_help_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(recipe_files()))
    for words in (["run", name, "--help"], ["show", "-h"], ["demo", "--help-all"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith(f"usage: ted {words[0]} ")


@pytest.mark.parametrize("name", ["student", "finetune", "init", "export"])
def test_a_command_that_lacks_all_its_words_shows_its_help_as_an_error(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"usage: ted {name} ")
    assert shown.err.endswith(f"- expected words after ted {name}, got none; its help is above\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "expected a recipe, got nothing; write ted run RECIPE"),
        (["show", "--seed", "1"], "expected a recipe, got --seed; write ted show RECIPE"),
        (["student", "a"], "expected a teacher and a new folder before the flags, got a; write TEACHER OUT first"),
        (["student", "--layers", "1"], "expected a teacher and a new folder before the flags, got nothing"),
        (
            ["student", "--teacher", "a"],
            "expected a teacher and a new folder before the flags, got nothing; write TEACHER OUT first\n"
            "- unknown flag --teacher",
        ),
        (["student", "a", "b", "--seed", "x"], "--seed: expected a whole number, got 'x'"),
        (["import-published", "a"], "expected two words, got 1; write ted import-published SOURCE OUT"),
        (["import-publish", "a", "b"], "unknown command import-publish; did you mean import-published?"),
    ],
)
def test_words_that_are_missing_or_wrong_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    trains = words[0] in table.COMMANDS and table.COMMANDS[words[0]].trains
    untrained = "; nothing was trained" if trains else ""
    assert printed.err.startswith(f"ted {words[0]}: invalid input{untrained}\n- {said}")


def test_an_output_that_nobody_reads_any_more_is_no_traceback() -> None:
    """As of `ted list | head -3`."""
    reader, writer = os.pipe()
    os.close(reader)
    listed = [sys.executable, "-m", "ted_distill", "list"]
    done = subprocess.run(listed, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.stderr, done.returncode) == ("", 141)


# --- changes to a recipe --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("seed=1", ["seed=1"]),
        ("--seed=1", ["seed=1"]),
        ("--seed 1", ["seed=1"]),
        (
            "--training.seed -1 ted.mse_alpha=2 --kd.kl_alpha=3",
            ["training.seed=-1", "ted.mse_alpha=2", "kd.kl_alpha=3"],
        ),
        ("--config_overrides a=1,b=2 seed=1", ["config_overrides=a=1,b=2", "seed=1"]),
        ("--config_overrides=a=1 --seed 1", ["config_overrides=a=1", "seed=1"]),
        ("--student_layers 2 4 --pairs 4:1 8:2", ["student_layers=[2, 4]", "pairs=[4:1, 8:2]"]),
        ("--training.bf16 --seed 1", ["training.bf16=true", "seed=1"]),
        ("score_on=null", ["score_on=null"]),
        ("teacher=", ["teacher="]),
        ("", []),
    ],
)
def test_changes_are_written_with_or_without_dashes(words: str, meant: list[str]) -> None:
    assert changes(words.split()) == meant


@pytest.mark.parametrize("words", ["seed", "seed=1 2", "--seed=1 2", "--a b=1 c=2 d"])
def test_a_word_that_belongs_to_no_key_is_refused(words: str) -> None:
    with pytest.raises(InputError, match=f"override: expected key=value or --key value, got {words.split()[-1]}"):
        changes(words.split())


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["require=null"], None),
        (["--require", "null"], None),
        (["require=[]"], None),
        (["require=[a > 1, b > 2]", "--require", "c > 3"], ["a > 1", "b > 2", "c > 3"]),
        (["require=null", "--require=c > 3"], ["c > 3"]),
        (["--require"], ["true"]),
    ],
)
def test_requirements_are_listed_or_taken_out(words: list[str], meant: list[str] | None) -> None:
    assert content_of(changes(words)) == {"require": meant}


def test_show_takes_changes_in_every_form_and_names_what_is_wrong_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(yaml.safe_dump({"task": "sst2", "teacher": "t", "student": "s", "training": {"use_cpu": True}}))
    for command in ("show", "run"):
        words = ["--kd.kl_alpha", "x", "--training.seed=1.5", "max_seq_length=long", "--methods", "kd", "tad"]
        assert main([command, str(file), *words]) == 2
        said = capsys.readouterr().err
        assert "- recipe section kd: kl_alpha: expected a number, got 'x'" in said
        assert "- recipe section training: seed: expected a whole number, got 1.5" in said
        assert "- recipe: max_seq_length: expected a whole number, got 'long'" in said
    assert main(["show", str(file), "--methods", "kd", "tad"]) == 2
    said = capsys.readouterr().err
    assert f"- recipe: methods: expected one or more of {KNOWN}, got 'tad'; did you mean ted?" in said


def test_a_table_is_printed_by_one_of_several_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ted_distill.runs.table.results_table", lambda results: "the table")
    for is_main in (True, False):
        monkeypatch.setattr("accelerate.PartialState.is_main_process", is_main)
        recipes._run_all(lambda before_dropping: {}, "out", report=False)
        assert ("the table" in capsys.readouterr().out) is is_main


def test_a_student_alone_needs_no_teacher(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--student_name_or_path", "s", "--task", "sst2", "--output_dir", "x"]
    assert main(["distill", "--method", "kd", *words]) == 2
    assert "--teacher_name_or_path is missing" in capsys.readouterr().err
    assert main(["distill", "--method", "alone", *words, "--seed", "-1"]) == 2
    assert "teacher_name_or_path" not in capsys.readouterr().err


def test_help_that_hides_flags_says_how_to_see_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--use_cpu" in said
    assert "--per_device_eval_batch_size" in said
    assert "--help-all lists further flags" in said


@pytest.mark.parametrize("key", ["pairs", "filter_interval", "teacher_filter_interval"])
def test_a_key_that_decides_stage_one_too_is_no_part_of_a_grid(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "stsb", "--grid", "mse_alpha=1,10", f"{key}=1,2"]) == 2
    assert f"--grid: expected keys of Stage II alone, got {key}" in capsys.readouterr().err


@pytest.mark.parametrize(("place", "expected"), [(".", "model-onnx"), ("..", "runs-onnx"), ("../model", "model-onnx")])
def test_files_go_beside_a_checkpoint_however_it_is_named(
    place: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs" / "model")
    folder = beside(place, "onnx").resolve()
    assert folder.name == expected
    assert folder.parent in (tmp_path, tmp_path / "runs")


def test_files_of_a_model_in_memory_go_where_they_outlive_it() -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    name = as_name((BertForSequenceClassification(config), tiny_tokenizer()))
    assert beside(name, "onnx").parent == Path()
    assert beside(name, "onnx").name.startswith("BertForSequenceClassification-")


@pytest.mark.parametrize("output", ["stdout", "stderr"])
def test_letters_that_the_output_has_no_code_for_are_shown_as_numbers(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, output, io.TextIOWrapper(written, encoding="cp1252", errors="strict"))

    def say(*given: object) -> None:
        getattr(sys, output).write("classes: \u6771 and \u00e9\n")

    monkeypatch.setitem(COMMANDS, "env", dataclasses.replace(COMMANDS["env"], run=say))
    assert main(["env"]) == 0
    getattr(sys, output).flush()
    assert written.getvalue().decode("cp1252").splitlines() == ["classes: \\u6771 and \u00e9"]


@pytest.mark.parametrize(("rank", "level"), [("0", logging.WARNING), ("1", logging.ERROR)])
def test_what_concerns_all_processes_is_said_by_the_main_one(
    rank: str, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    before = root.level
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    try:
        root.setLevel(logging.WARNING)
        assert main(["list"]) == 0
        assert root.level == level
    finally:
        root.setLevel(before)


def test_a_run_proposes_an_export_that_is_compared_on_its_own_rows() -> None:
    assert next_of_run("runs/my own") == (
        "ted bench 'runs/my own', or ted export 'runs/my own/best' --int8 --test 'runs/my own/recipe.yaml'"
    )
