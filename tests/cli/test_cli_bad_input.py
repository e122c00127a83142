"""`ted` refuses bad input with exit code 2, saying what it expected, what it got and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModel, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from ted_distill.cli.main import COMMANDS, main
from ted_distill.fast import precision
from ted_distill.method.filter_files import save_filters
from ted_distill.method.filters import FilterConfig, Filters
from ted_distill.stages.methods import METHODS
from tiny import CLASSES, save_tiny, tiny_tokenizer, write_questions, write_reviews

KNOWN = ", ".join(METHODS)

QUICK = ["--max_steps", "1", "--eval_strategy", "no", "--save_strategy", "no", "--report_to", "none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and models with filters of width 16: a teacher of 4 blocks, students of 2 and 3 blocks."""
    folder = tmp_path_factory.mktemp("inputs")
    write_reviews(folder, 12)
    write_questions(folder, 6)
    for name, blocks, interval in (("teacher", 4, 2), ("student", 2, 1), ("student3", 3, 1)):
        save_tiny(folder / name, AutoModelForSequenceClassification, blocks=blocks, seed=blocks, **CLASSES)
        with_filters(folder / name, interval)
    save_tiny(folder / "unfiltered", AutoModelForSequenceClassification, **CLASSES)
    save_tiny(folder / "other_labels", AutoModelForSequenceClassification, id2label={0: "dull", 1: "fine"})
    save_tiny(folder / "no_head", AutoModel)
    save_tiny(folder / "qa", AutoModelForQuestionAnswering)
    save_tiny(folder / "other_words", AutoModelForSequenceClassification, **CLASSES)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["opera"])
    tokenizer.save_pretrained(folder / "other_words")
    return folder


def with_filters(folder: Path, interval: int, width: int = 16, into: Path | None = None) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    (into or folder).mkdir(exist_ok=True)
    save_filters(into or folder, Filters.random(FilterConfig.for_model(model.config, interval, width)), model)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that has to be refused; gives what it said."""

    def run(*argv: object) -> str:
        capsys.readouterr()
        assert main([str(word) for word in argv]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert "Traceback" not in said.err
        assert f"ted {argv[0]}: invalid input" in said.err
        problems = [line for line in said.err.splitlines() if line.startswith("- ")]
        assert len(problems) == len(set(problems)) > 0
        return said.err

    return run


@pytest.fixture
def out(tmp_path: Path) -> Any:
    """An output folder into which nothing may be written."""
    yield tmp_path / "out"
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


@pytest.fixture
def finetune(folder: Path, out: Path) -> list[object]:
    """A command line that would work."""
    return ["finetune", "--model_name_or_path", folder / "student", *reviews(folder), "--output_dir", out, *QUICK]


@pytest.fixture
def distill(folder: Path, out: Path) -> Callable[..., list[object]]:
    """Command lines of Stage II."""

    def line(teacher: str | Path = "teacher", student: str | Path = "student", *flags: object) -> list[object]:
        models = ["--teacher_name_or_path", folder / teacher, "--student_name_or_path", folder / student]
        return ["distill", *models, *reviews(folder), "--output_dir", out, *QUICK, *flags]

    return line


def reviews(folder: Path, train: Path | None = None) -> list[object]:
    file = folder / "reviews.jsonl"
    return ["--task", "sequence_classification", "--train_file", train or file, "--validation_file", file]


def write_rows(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


# --- commands and flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("typed", "meant"), [("finetun", "finetune"), ("learn_filters", "learn-filters")])
def test_an_unknown_command_is_answered_with_the_nearest(refused: Callable[..., str], typed: str, meant: str) -> None:
    said = refused(typed, "--task", "sst2")
    assert f"unknown command {typed}; did you mean {meant}? (`ted --help` lists all)" in said


def test_a_command_like_no_other_is_answered_without_a_guess(refused: Callable[..., str]) -> None:
    assert "unknown command qwx (`ted --help` lists all)" in refused("qwx")


@pytest.mark.parametrize("command", ["finetune", "learn-filters", "distill", "evaluate"])
def test_all_unknown_flags_are_answered_with_their_nearest(refused: Callable[..., str], command: str) -> None:
    said = refused(command, "--tsak", "sst2", "--max_seq_lenght=64", "--task", "sst2", "--qwxqwx", "1")
    assert "- unknown flag --tsak; did you mean --task?" in said
    assert "- unknown flag --max_seq_lenght; did you mean --max_seq_length?" in said
    assert "- unknown flag --qwxqwx\n" in said


def test_a_word_where_a_flag_was_expected_is_named(refused: Callable[..., str]) -> None:
    assert "expected a flag, got sst2" in refused("finetune", "sst2")


def test_values_of_the_wrong_kind_are_named_all_at_once(refused: Callable[..., str], finetune: list[object]) -> None:
    said = refused(*finetune, "--learning_rate", "fast", "--max_seq_length=long", "--bf16", "perhaps", "--sed", "1")
    assert "- learning_rate: expected a number above 0 and at most 10, or auto, got 'fast'" in said
    assert "- --max_seq_length: expected a whole number, got 'long'" in said
    assert "- --bf16: expected true or false, got 'perhaps'" in said
    assert "unknown flag --sed; did you mean --seed?" in said


def test_a_flag_without_its_value_is_named(refused: Callable[..., str], finetune: list[object]) -> None:
    assert "--seed: expected a value, got nothing" in refused(*finetune, "--seed")


@pytest.mark.parametrize(
    ("command", "models"),
    [
        ("finetune", ["model_name_or_path"]),
        ("learn-filters", ["model_name_or_path"]),
        ("distill", ["teacher_name_or_path", "student_name_or_path"]),
    ],
)
def test_everything_missing_is_named_at_once(refused: Callable[..., str], command: str, models: list[str]) -> None:
    said = refused(command, "--seed", "1")
    missing = [line.removeprefix("- --").split()[0] for line in said.splitlines() if line.startswith("- ")]
    assert missing == [*models, "task", "output_dir"]


def test_evaluate_wants_a_model_and_a_task_but_no_folder(refused: Callable[..., str]) -> None:
    said = refused("evaluate", "--bf16", "true")
    missing = [line.removeprefix("- --").split()[0] for line in said.splitlines() if line.startswith("- ")]
    assert missing == ["model_name_or_path", "task"]


def test_an_unknown_task_is_answered_with_the_nearest(refused: Callable[..., str], out: Path) -> None:
    said = refused("finetune", "--model_name_or_path", "x", "--task", "sst-2", "--output_dir", out)
    assert "task: expected one of sequence_classification, " in said
    assert "got 'sst-2'; did you mean sst2?" in said


# --- recipes --------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(folder: Path, out: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe that would work but for `changes`."""

    def write(**changes: Any) -> Path:
        content = {
            "task": "sequence_classification",
            "train_file": str(folder / "reviews.jsonl"),
            "validation_file": str(folder / "reviews.jsonl"),
            "teacher": str(folder / "teacher"),
            "student": str(folder / "student"),
            "output_dir": str(out),
            "training": {"max_steps": 1, "report_to": "none"},
        }
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({**content, **changes}))
        return file

    return write


def test_a_recipe_that_is_not_there_is_answered_with_the_nearest(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    file = recipe()
    said = refused("run", file.with_name("recipes.yaml"))
    assert f"recipes.yaml; did you mean {file}?" in said


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just words\n", "a: [1\n", "a: b: c\n"])
def test_a_file_that_is_not_a_recipe_is_refused(refused: Callable[..., str], tmp_path: Path, content: str) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(content)
    said = refused("run", file)
    assert str(file) in said
    assert "not valid YAML" in said or f"expected `key: value` lines in {file}, got " in said


def test_unknown_keys_of_a_recipe_and_of_its_sections_are_named_at_once_with_their_nearest(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    said = refused("run", recipe(techer="x", max_seq_lenght=64, ted={"mse_alfa": 1}, finetune={"lerning_rate": 1e-4}))
    assert "recipe: unknown key techer; did you mean teacher?" in said
    assert "recipe: unknown key max_seq_lenght; did you mean max_seq_length?" in said
    assert "recipe section ted: unknown key mse_alfa; did you mean mse_alpha?" in said
    assert "unknown key lerning_rate; did you mean learning_rate?" in said


def test_an_unknown_key_of_a_shared_section_is_named_once_and_under_that_section(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    said = refused("run", recipe(training={"lerning_rate": 1}, distill={"kl_alfa": 1}))
    assert "recipe section training: unknown key lerning_rate; did you mean learning_rate?" in said
    assert "recipe section distill: unknown key kl_alfa; did you mean kl_alpha?" in said
    assert said.count("\n- ") == 2


def test_values_of_the_wrong_kind_in_a_recipe_are_named(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    wrong = {"kd": {"temperature": "hot"}, "lwd": 3, "training": {"learning_rate": "fast"}}
    said = refused("run", recipe(methods=["ted", "kt"], **wrong))
    assert f"recipe: methods: expected one or more of {KNOWN}, got 'kt'" in said
    assert "recipe section lwd: expected `key: value` lines, got 3" in said
    assert "recipe section kd: temperature: expected a number, got 'hot'" in said
    assert (
        said.count("recipe section training: learning_rate: expected a number above 0 and at most 10, or auto, got")
        == 1
    )
    said = refused("run", recipe(max_seq_length="long", filter_interval="wide", **wrong))
    assert "recipe: max_seq_length: expected a whole number, got 'long'" in said
    assert "recipe: filter_interval: expected a whole number, got 'wide'" in said
    assert "recipe section kd: temperature: expected a number, got 'hot'" in said
    assert "missing" not in said


def test_what_a_dataclass_refuses_is_named_under_the_section_it_stands_in(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    said = refused("run", recipe(training={"cache_limit": -1, "max_steps": 1}, ted={"label_smoothing_factor": 0.1}))
    assert said.count("recipe section training: cache_limit: ") == 1
    assert "recipe section ted: label_smoothing_factor: " in said


def test_a_recipe_without_models_names_all_that_is_missing(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    said = refused("run", recipe(teacher=None, student=None, output_dir=None))
    for name in ("teacher", "student"):
        assert f"- recipe: {name} is missing; pass" in said


def test_an_override_without_a_key_or_with_an_unknown_one_is_refused(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    assert "override: expected key=value or --key value, got ted" in refused("run", recipe(), "ted")
    assert "unknown key mse_alfa; did you mean mse_alpha?" in refused("run", recipe(), "ted.mse_alfa=1")


def test_pairs_of_a_recipe_that_do_not_match_are_refused_before_its_first_stage(
    refused: Callable[..., str], recipe: Callable[..., Path], folder: Path
) -> None:
    said = refused("run", recipe(student=str(folder / "student3")))
    assert "expected filtered blocks of the student that divide the teacher's 4 evenly, got 3" in said
    said = refused("run", recipe(teacher_filter_interval=4))
    assert "expected as many filtered blocks of the teacher as of the student, got 1 (4) and 2 (1, 2)" in said


def test_student_layers_the_teacher_does_not_have_are_refused_before_its_first_stage(
    refused: Callable[..., str], recipe: Callable[..., Path]
) -> None:
    said = refused("run", recipe(student=None, student_layers=[2, 40]))
    assert "student_layers: expected ascending numbers from 1 to 4, got [2, 40]" in said
    said = refused("run", recipe(teacher_filter_interval=0))
    assert "recipe: teacher_filter_interval: expected a whole number of at least 1, got 0" in said


def test_data_of_a_recipe_are_checked_before_its_first_stage(
    refused: Callable[..., str], recipe: Callable[..., Path], folder: Path
) -> None:
    said = refused("run", recipe(validation_file=str(folder / "review.jsonl"), teacher_filter_interval=9))
    assert f"no such file; did you mean {folder / 'reviews.jsonl'}?" in said
    assert "filter_interval: expected 1 to 4 (the model's blocks), got 9" in said


# --- data -----------------------------------------------------------------------------------------------------


def test_missing_data_files_are_named_all_at_once_with_the_nearest(
    refused: Callable[..., str], finetune: list[object], folder: Path
) -> None:
    said = refused(*finetune, "--train_file", folder / "reveiws.jsonl", "--validation_file", folder / "no" / "x.csv")
    missing, near, elsewhere = folder / "reveiws.jsonl", folder / "reviews.jsonl", folder / "no" / "x.csv"
    assert f"train_file {missing}: expected a file, found no such file; did you mean {near}?" in said
    assert f"validation_file {elsewhere}: expected a file, found no folder {folder / 'no'}" in said


def test_no_data_at_all_are_refused(refused: Callable[..., str], folder: Path, out: Path) -> None:
    said = refused(
        "finetune", "--model_name_or_path", folder / "student", "--task", "sequence_classification", "--output_dir", out
    )
    assert "data: expected files or a data set of the Hub, got neither; set --train_file and --validation_file" in said


def test_nothing_to_score_on_is_refused_with_both_ways_out(
    refused: Callable[..., str], folder: Path, out: Path
) -> None:
    said = refused("finetune", "--model_name_or_path", folder / "student", *reviews(folder)[:4], "--output_dir", out)
    assert "expected rows to score on, got none; give --validation_file, or set --eval_strategy no" in said


def test_an_empty_file_and_one_without_rows_are_refused(
    refused: Callable[..., str], finetune: list[object], tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("text,label\n")
    said = refused(*finetune, "--train_file", tmp_path / "empty.csv", "--validation_file", tmp_path / "header.csv")
    assert f"train_file {tmp_path / 'empty.csv'}: expected at least one row, got none" in said
    assert f"validation_file {tmp_path / 'header.csv'}: expected at least one row, got none" in said


def test_a_missing_column_is_named_with_those_there_are(
    refused: Callable[..., str], finetune: list[object], tmp_path: Path
) -> None:
    said = refused(*finetune, "--text_column", "sentence", "--label_column", "stars")
    assert "train: expected a column 'sentence', got columns text, label; name it with --text_column" in said
    assert "train: expected a column 'stars', got columns text, label; name it with --label_column" in said
    file = write_rows(tmp_path, [{"words": "the film", "label": "good"}, {"words": "a film", "label": "bad"}])
    said = refused(*finetune, "--train_file", file)
    assert "expected one column with a usual name for the text, got none (columns: words, label)" in said


def test_labels_the_model_does_not_know_are_named_with_those_it_does(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path
) -> None:
    said = refused(*distill("other_labels", "student", "--method", "kd"))
    assert f"labels: expected {folder / 'other_labels'} to have the data's labels" in said
    assert "got dull, fine without bad, good" in said


def test_a_label_of_the_validation_rows_alone_is_refused(
    refused: Callable[..., str], finetune: list[object], tmp_path: Path
) -> None:
    rows = [{"text": "a film", "label": label} for label in ("good", "bad", "fine")]
    said = refused(*finetune, "--validation_file", write_rows(tmp_path, rows))
    assert "validation: expected the labels bad, good, got 'fine' in 1 row (3; counted from 1)" in said


def test_several_problems_of_the_data_and_the_folder_come_in_one_message(
    refused: Callable[..., str], finetune: list[object], tmp_path: Path
) -> None:
    rows = [{"text": text, "label": label} for text, label in (("a", "good"), ("", "bad"), ("b", None), (None, "bad"))]
    (tmp_path / "file").write_text("")
    said = refused(*finetune, "--train_file", write_rows(tmp_path, rows), "--output_dir", tmp_path / "file" / "folder")
    assert "output_dir: " in said
    assert "train: expected text in every row, got none in 1 row (4; counted from 1); fix or remove them" in said
    assert "train: expected a label in every row, got none in 1 row (3; counted from 1); fix or remove them" in said
    assert "train: expected words in every text, got blank text in 1 row (2; counted from 1)" in said


def test_an_answer_that_does_not_stand_at_its_offset_is_quoted(
    refused: Callable[..., str], folder: Path, out: Path, tmp_path: Path
) -> None:
    document = json.loads((folder / "questions.json").read_text())
    document["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "Ada", "answer_start": 4}]
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(document))
    said = refused(
        "finetune", "--model_name_or_path", folder / "qa", "--task", "squad_v2", "--train_file", file,
        "--validation_file", folder / "questions.json", "--output_dir", out,
    )  # fmt: skip
    assert (
        "train: expected each answer in its context at answer_start, in characters from 0, got 1 that is not there"
        in said
    )
    assert "'q0': 'Ada' at 4, where the context has 'wro'" in said
    assert "fix or remove these rows" in said


def test_squad_one_refuses_questions_without_answer_and_names_squad_two(
    refused: Callable[..., str], folder: Path, out: Path
) -> None:
    file = folder / "questions.json"
    said = refused(
        "finetune", "--model_name_or_path", folder / "qa", "--task", "squad", "--train_file", file,
        "--validation_file", file, "--output_dir", out,
    )  # fmt: skip
    assert "got none for 2 questions (first: 'q2', 'q5')" in said
    assert "use task squad_v2" in said


def test_a_refusal_after_the_models_were_read_does_not_take_the_folder(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    line = ["finetune", "--model_name_or_path", folder / "student", *reviews(folder), *QUICK]
    line += ["--output_dir", tmp_path / "run", "--disable_tqdm", "true"]
    said = refused(*line, "--max_seq_length", "2")
    assert "max_seq_length: expected 3 to 64 tokens" in said
    assert main([*map(str, line), "--max_seq_length", "32"]) == 0


# --- models and folders ---------------------------------------------------------------------------------------


def test_models_that_are_not_there_are_named_both_at_once(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path
) -> None:
    said = refused(*distill("nobody", "noone", "--method", "kd"))
    for name in ("nobody", "noone"):
        assert f"expected a folder or a Hub id, got the folder {folder / name}, which does not exist" in said


@pytest.mark.parametrize("command", ["learn-filters", "evaluate"])
def test_a_model_without_a_trained_head_is_sent_to_finetune(
    refused: Callable[..., str], folder: Path, out: Path, command: str
) -> None:
    said = refused(command, "--model_name_or_path", folder / "no_head", *reviews(folder), "--output_dir", out)
    assert f"model: expected a trained head for this task in {folder / 'no_head'}, got a checkpoint without" in said
    assert "fine-tune it first with `ted finetune`" in said


def test_an_output_folder_below_a_file_is_refused(
    refused: Callable[..., str], finetune: list[object], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    said = refused(*finetune, "--output_dir", tmp_path / "file" / "folder")
    assert f"output_dir: {tmp_path / 'file' / 'folder'} cannot be written (" in said
    assert "choose another folder" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_folder_that_is_a_file_is_refused(
    refused: Callable[..., str], finetune: list[object], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    said = refused(*finetune, "--output_dir", tmp_path / "file")
    assert f"output_dir: {tmp_path / 'file'} cannot be written (" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_vocabularies_that_differ_are_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path
) -> None:
    said = refused(*distill("teacher", "other_words", "--method", "lwd"))
    assert f"one for both {folder / 'teacher'} (teacher) and {folder / 'other_words'} (student), as the states" in said
    assert "has 32 entries and the student's 33" in said
    assert "use only method kd, which compares the predictions for whole rows, or choose a student with" in said


def test_an_output_folder_of_other_settings_is_refused_and_kept(
    refused: Callable[..., str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["finetune", "--model_name_or_path", folder / "student", *reviews(folder), *QUICK]
    line += ["--output_dir", tmp_path / "finished", "--disable_tqdm", "true"]
    assert main([*map(str, line), "--seed", "1", "--learning_rate", "0.0001"]) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "finished").iterdir()}
    said = refused(*line, "--seed", "2", "--learning_rate", "0.001")
    assert (
        f"output_dir: expected {tmp_path / 'finished'} to be free or to hold this stage, got a finished stage" in said
    )
    assert "seed was 1, now 2" in said
    assert "arguments learning_rate was 0.0001, now 0.001" in said
    assert "delete the folder, or give another output_dir" in said
    assert {file: file.read_bytes() for file in (tmp_path / "finished").iterdir()} == before
    # The same settings again: nothing is trained, the results are those of before.
    capsys.readouterr()
    assert main([*map(str, line), "--seed", "1", "--learning_rate", "0.0001"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in (tmp_path / "finished").iterdir()} == before


def test_a_finished_stage_with_another_config_is_not_taken_for_this_one(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    line = ["finetune", "--model_name_or_path", folder / "student", *reviews(folder), *QUICK]
    line += ["--output_dir", tmp_path / "run", "--disable_tqdm", "true"]
    assert main([*map(str, line)]) == 0
    said = refused(*line, "--config_overrides", "hidden_dropout_prob=0")
    assert "hidden_dropout_prob was 0.1, now 0" in said


# --- evaluation -----------------------------------------------------------------------------------------------


def test_a_precision_or_a_batch_size_that_cannot_be_is_refused_by_evaluate(
    refused: Callable[..., str], folder: Path
) -> None:
    line = ["evaluate", "--model_name_or_path", folder / "student", *reviews(folder)]
    assert "fp16: expected a GPU, got a CPU" in refused(*line, "--fp16", "--use_cpu")
    assert "fp16: expected one of fp16 and bf16, got both" in refused(*line, "--fp16", "--bf16")
    said = refused(*line, "--per_device_eval_batch_size", "0")
    assert "per_device_eval_batch_size: expected a whole number of at least 1, got 0" in said


def test_evaluate_scores_on_the_cpu_if_it_is_told_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    monkeypatch.setattr(precision, "does_bfloat16_well", lambda device: bool(asked.append(device.type)))
    line = ["evaluate", "--model_name_or_path", folder / "student", *reviews(folder), "--use_cpu"]
    assert main([*map(str, line)]) == 0
    assert asked == ["cpu"]
    assert "accuracy" in capsys.readouterr().out


# --- distillation ---------------------------------------------------------------------------------------------


def test_wrong_method_and_weights_are_named_all_at_once(
    refused: Callable[..., str], distill: Callable[..., list[object]]
) -> None:
    said = refused(
        *distill(
            "teacher", "student", "--method", "tad", "--temperature", "-1", "--kl_alpha", "-2", "--mse_alpha", "-3"
        )
    )
    assert f"method: expected one of {KNOWN}, got 'tad'; did you mean ted?" in said
    assert "temperature: expected a number above 0, got -1.0" in said
    assert "kl_alpha: expected a number of at least 0, got -2.0" in said
    assert "mse_alpha: expected a number of at least 0, got -3.0" in said


@pytest.mark.parametrize("value", ["nan", "inf", "0"])
def test_a_temperature_that_is_no_positive_number_is_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]], value: str
) -> None:
    said = refused(*distill("teacher", "student", "--method", "kd", "--temperature", value))
    assert f"temperature: expected a number above 0, got {float(value)}" in said


@pytest.mark.parametrize("name", ["kl_alpha", "mse_alpha"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_weight_that_is_no_number_is_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]], name: str, value: str
) -> None:
    said = refused(*distill("teacher", "student", "--method", "lwd", f"--{name}", value))
    assert f"{name}: expected a number of at least 0, got {value}" in said


def test_a_layer_weight_without_layers_is_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]]
) -> None:
    said = refused(*distill("teacher", "student", "--method", "kd", "--mse_alpha", "100"))
    assert "mse_alpha: expected 0, as method kd matches no hidden states, got 100.0; leave it out" in said


@pytest.mark.parametrize("flag", ["--teacher_filter_interval", "--filter_interval"])
def test_an_interval_that_fits_no_block_is_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]], flag: str
) -> None:
    said = refused(*distill("teacher", "student", "--method", "lwd", flag, "9"))
    assert "(the model's blocks), got 9" in said
    for value in ("-1", "0"):
        said = refused(*distill("teacher", "student", "--method", "lwd", flag, value))
        assert f"{flag[2:]}: expected a whole number of at least 1, got {value}" in said


def test_numbers_of_pairs_that_differ_are_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]]
) -> None:
    said = refused(*distill("teacher", "student3", "--method", "lwd"))
    assert "expected filtered blocks of the student that divide the teacher's 4 evenly, got 3" in said
    said = refused(*distill("teacher", "student3", "--method", "lwd", "--teacher_filter_interval", "2"))
    assert "expected as many filtered blocks of the teacher as of the student, got 2 (2, 4) and 3 (1, 2, 3)" in said
    assert "set teacher_filter_interval and filter_interval" in said
    said = refused(*distill("teacher", "student3", "--method", "ted"))
    assert "expected as many filtered blocks of the teacher as of the student, got 2 (2, 4) and 3 (1, 2, 3)" in said


def test_missing_filters_of_both_models_are_named_at_once(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path
) -> None:
    said = refused(*distill("unfiltered", "unfiltered", "--method", "ted", "--student_filters", "learned"))
    for owner in ("teacher", "student"):
        assert f"{owner} filters: expected filters.json and filters.safetensors in {folder / 'unfiltered'}" in said
    assert "make them with `ted learn-filters" in said


def test_filters_of_another_model_are_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path
) -> None:
    said = refused(*distill("unfiltered", "student", "--method", "ted", "--teacher_filters", folder / "student"))
    assert f"teacher filters: those in {folder / 'student'} were trained with a different model" in said
    assert "pass the model they were trained with, or learn them again" in said


def test_filters_of_two_widths_are_refused_with_both(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path, tmp_path: Path
) -> None:
    with_filters(folder / "student", 1, 24, tmp_path / "wide")
    said = refused(*distill("teacher", "student", "--method", "ted", "--student_filters", tmp_path / "wide"))
    assert "filters: expected one filter_output_dim, got 16 of the teacher and 24 of the student" in said
    assert "learn the student's with --filter_output_dim 16" in said


def test_filters_after_other_blocks_than_asked_for_are_refused(
    refused: Callable[..., str], distill: Callable[..., list[object]]
) -> None:
    said = refused(*distill("teacher", "student", "--method", "ted", "--teacher_filter_interval", "1"))
    assert "teacher filters: expected filters of blocks [1, 2, 3, 4], got those of [2, 4]" in said


@pytest.mark.parametrize("command", ["finetune", "learn-filters", "distill"])
def test_an_unknown_metric_is_refused_before_training_with_those_there_are(
    refused: Callable[..., str], distill: Callable[..., list[object]], folder: Path, out: Path, command: str
) -> None:
    line = ["finetune", "--model_name_or_path", folder / "student", *reviews(folder), "--output_dir", out]
    if command == "distill":
        line = distill("teacher", "student", "--method", "kd")
    line = [command, *line[1:], "--max_steps", "2", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    said = refused(*line, "--report_to", "none", "--disable_tqdm", "true", "--metric_for_best_model", "acuracy")
    assert "metric_for_best_model: expected one of accuracy, f1_macro, got 'acuracy'; did you mean accuracy?" in said


def test_the_best_checkpoint_by_mse_is_the_one_with_the_least(folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"a {word} film", "label": score} for word, score in (("good", 10), ("bad", 0), ("fine", 8))] * 4
    file = write_rows(tmp_path, rows)
    line = ["finetune", "--model_name_or_path", folder / "no_head", "--task", "regression", "--train_file", file]
    line += ["--validation_file", file, "--output_dir", tmp_path / "run", "--metric_for_best_model", "mse"]
    line += ["--num_train_epochs", "16", "--per_device_train_batch_size", "2", "--learning_rate", "0.005"]
    line += ["--lr_scheduler_type", "constant", "--save_total_limit", "20", "--keep_checkpoints", "true"]
    assert main([*map(str, line), "--disable_tqdm", "true", "--report_to", "none"]) == 0
    state = json.loads((tmp_path / "run" / "checkpoint-96" / "trainer_state.json").read_text())
    scores = {entry["step"]: entry["eval_mse"] for entry in state["log_history"] if "eval_mse" in entry}
    assert len(scores) == 16
    assert max(scores.values()) > 1.1 * min(scores.values())
    results = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert results["best_step"] == min(scores, key=lambda step: scores[step])
    assert results["mse"] == pytest.approx(min(scores.values()))


def test_learn_filters_refuses_a_width_below_one(refused: Callable[..., str], folder: Path, out: Path) -> None:
    line = ["learn-filters", "--model_name_or_path", folder / "student", *reviews(folder), "--output_dir", out]
    said = refused(*line, "--filter_output_dim", "0")
    assert "filter_output_dim: expected a whole number of at least 1, got 0" in said


# --- config files ---------------------------------------------------------------------------------------------


def test_flags_win_over_the_config_file_which_wins_over_the_defaults(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "finetune.yaml"
    content = {
        "model_name_or_path": str(folder / "student"),
        "task": "sequence_classification",
        "train_file": str(folder / "reviews.jsonl"),
        "validation_file": str(folder / "reviews.jsonl"),
        "output_dir": str(tmp_path / "run"),
        "max_steps": 5,
        "seed": 7,
        "learning_rate": 3e-4,
        "eval_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "config_overrides": "hidden_dropout_prob=0,classifier_dropout=0",
    }
    file.write_text(yaml.safe_dump(content))
    assert main(["finetune", "--max_steps", "2", "--config", str(file), "--seed=9"]) == 0
    assert json.loads((tmp_path / "run" / "all_results.json").read_text())["steps"] == 2
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())["identity"]["arguments"]
    assert (settings["seed"], settings["max_steps"]) == ("9", "2")
    assert (settings["learning_rate"], settings["weight_decay"]) == ("0.0003", "0.0")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["hidden_dropout_prob"] == 0
    assert "accuracy" in capsys.readouterr().out


def test_problems_of_config_files_are_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "--config: expected one YAML file, got nothing" in refused("finetune", "--config")
    assert "config: nowhere.yaml does not exist" in refused("finetune", "--config", "nowhere.yaml")
    file = tmp_path / "c.yaml"
    file.write_text("lerning_rate: 1\ntask: sst2\n")
    said = refused("finetune", "--config", file)
    assert "- config: unknown key lerning_rate; did you mean learning_rate?" in said


# --- help -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--help"], ["-h"], [], *([command, "--help"] for command in COMMANDS)])
def test_help_fits_on_a_screen(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert 0 < len(lines) <= 60
    assert max(map(len, lines)) <= 120
    if argv[1:] and argv[0] != "list":
        assert f"usage: ted {argv[0]} " in said.out


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("finetune", "model_name_or_path task train_file config_overrides output_dir learning_rate"),
        ("learn-filters", "model_name_or_path filter_interval filter_output_dim filter_nonlinear output_dir"),
        ("distill", "teacher_name_or_path student_name_or_path method kl_alpha mse_alpha temperature teacher_filters"),
        ("evaluate", "model_name_or_path teacher_name_or_path predictions_file validation_file output_dir"),
    ],
)
def test_help_names_what_a_command_is_for(command: str, flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    words = capsys.readouterr().out.split()
    assert all(f"--{flag}" in words for flag in flags.split())


def test_help_all_names_the_arguments_of_transformers_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--help-all"]) == 0
    assert "--adam_beta2" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ted-distill 0.")


# --- places that cannot be written ----------------------------------------------------------------------------------


def test_a_student_below_a_file_is_refused_in_one_line(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = refused("student", folder / "teacher", tmp_path / "file" / "out", "--layers", "1")
    assert f"- OUT: {tmp_path / 'file' / 'out'} cannot be written (Not a directory)" in said


def test_a_recipe_below_a_file_is_no_recipe_that_exists(
    refused: Callable[..., str], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = refused(
        "init", folder / "teacher", "--train_file", folder / "reviews.jsonl", "-o", tmp_path / "file" / "x.yaml"
    )
    assert f"x.yaml cannot be written ({tmp_path / 'file'} is a file); give another with -o" in said


def test_a_flag_of_one_or_several_words_takes_its_words(refused: Callable[..., str]) -> None:
    said = refused("finetune", "--debug", "underflow_overflow", "--task", "sst2")
    assert "--debug" not in said
    assert "--debug: expected" in refused("finetune", "--debug", "overflow", "--task", "sst2")
