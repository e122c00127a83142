"""Values of YAML files and of flags become those of dataclasses, or are refused with what was expected and found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

from ted_distill import InputError, StageArguments
from ted_distill.cli.flags import Parser, parse_flags
from ted_distill.models.load import ModelArguments
from ted_distill.models.students import StudentArguments
from ted_distill.runs.parsing import MAX_NODES, from_values, parse_yaml, read_yaml, shown
from ted_distill.runs.run_arguments import RunArguments
from ted_distill.stages import DistillArguments
from ted_distill.tasks import TaskArguments


@dataclass
class Strict:
    """Refuses some of its values itself."""

    size: int = 1
    other: int = 1
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.size > 9:
            raise InputError(f"size: expected at most 9, got {self.size}")
        if self.other != 1:
            raise InputError("size and other contradict each other")


def one(kind: type, **values: Any) -> Any:
    (made,) = from_values((kind,), values)
    return made


def refused(kind: type, where: str = "", **values: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        from_values((kind,), values, where)
    return error.value.problems


# --- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "'1e-3'"])
def test_a_number_with_an_exponent_is_a_number_although_yaml_reads_it_as_text(text: str) -> None:
    assert one(TrainingArguments, learning_rate=parse_yaml(text, ""), use_cpu=True).learning_rate == 1e-3


def test_a_whole_number_is_fine_for_a_float() -> None:
    value = one(DistillArguments, kl_alpha=3).kl_alpha
    assert (value, type(value)) == (3.0, float)


@pytest.mark.parametrize("value", [3, 3.0, "3", "3.0", "30e-1"])
def test_a_number_without_a_fraction_is_fine_for_an_int(value: Any) -> None:
    found = one(RunArguments, filter_interval=value).filter_interval
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize("value", [3.5, "3.5", "1e-1", True, float("nan"), float("inf"), [3], {"a": 3}, "", "x"])
def test_anything_else_is_refused_for_an_int(value: Any) -> None:
    assert refused(RunArguments, filter_interval=value) == [
        f"filter_interval: expected a whole number, got {shown(value)}"
    ]


@pytest.mark.parametrize("value", ["fast", True, [1.0], {"a": 1}, 10**400])
def test_anything_but_a_number_is_refused_for_a_float(value: Any) -> None:
    (problem,) = refused(DistillArguments, kl_alpha=value)
    assert problem == f"kl_alpha: expected a number, got {shown(value)}"
    assert len(problem) < 100


# --- truth values ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [True, "true", "True", "yes", "on", 1])
def test_words_for_true_are_true(value: Any) -> None:
    assert one(RunArguments, filter_nonlinear=value).filter_nonlinear is True


@pytest.mark.parametrize("value", [False, "false", "no", "off", 0])
def test_words_for_false_are_false(value: Any) -> None:
    assert one(ModelArguments, trust_remote_code=value).trust_remote_code is False


@pytest.mark.parametrize("value", [2, "perhaps", [True], {}])
def test_anything_else_is_refused_for_a_truth_value(value: Any) -> None:
    expected = f"filter_nonlinear: expected true or false, got {shown(value)}"
    assert refused(RunArguments, filter_nonlinear=value) == [expected]


def test_the_word_no_which_yaml_takes_for_false_is_a_strategy() -> None:
    values = parse_yaml("eval_strategy: no\nsave_strategy: no\nlogging_strategy: no", "")
    made = one(StageArguments, **values, use_cpu=True)
    assert made.eval_strategy == made.save_strategy == made.logging_strategy == "no"


# --- text -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (0.5, "0.5"), ("a=1", "a=1"), ("", "")])
def test_a_number_for_a_text_is_its_text(value: Any, text: str) -> None:
    assert one(ModelArguments, config_overrides=value).config_overrides == text


@pytest.mark.parametrize("value", [["a", "b"], [], {"a": 1}])
def test_a_list_or_a_mapping_is_refused_for_a_text(value: Any) -> None:
    assert refused(TaskArguments, label_column=value) == [f"label_column: expected text, got {value}"]


def test_a_word_that_yaml_takes_for_a_truth_value_is_refused_for_a_text_with_the_way_out() -> None:
    values = parse_yaml("dataset_config_name: no", "")
    expected = "dataset_config_name: expected text, got false; put it in quotes"
    assert refused(TaskArguments, **values) == [expected]


@pytest.mark.parametrize("text", ["0123456", "2024-01-02", "12:30", "12e4567"])
def test_a_revision_that_looks_like_a_number_or_a_date_stays_as_it_is(text: str) -> None:
    assert one(ModelArguments, model_revision=parse_yaml(text, "")).model_revision == text


# --- lists ----------------------------------------------------------------------------------------------------


def test_a_list_holds_values_of_its_kind() -> None:
    assert one(RunArguments, student_layers=[2, "4", 6.0]).student_layers == [2, 4, 6]
    assert refused(RunArguments, student_layers=[2, "x"]) == [
        "student_layers: expected a list of whole numbers, got [2, 'x']"
    ]


def test_one_value_for_a_list_is_a_list_of_one() -> None:
    assert one(RunArguments, student_layers=4).student_layers == [4]
    assert one(RunArguments, methods="alone").methods == ["alone"]


@pytest.mark.parametrize("text", ["[[4, 1], [8, 2]]", "['4:1', '8:2']", "[4:1, 8:2]", "[[4, 1], 8:2]"])
def test_pairs_are_written_as_two_numbers_or_with_a_colon(text: str) -> None:
    assert one(DistillArguments, pairs=parse_yaml(text, "")).pairs == ["4:1", "8:2"]


@pytest.mark.parametrize("value", [{4: 1}, [{4: 1}], [[[4], 1]], [["a", "b"]], [None]])
def test_pairs_of_anything_else_are_refused(value: Any) -> None:
    assert refused(DistillArguments, pairs=value) == [f"pairs: expected a list, got {shown(value)}"]


def test_a_text_or_a_list_of_them_is_kept_as_it_is_given() -> None:
    assert one(TrainingArguments, report_to="none", use_cpu=True).report_to == []
    made = one(TrainingArguments, optim_target_modules=["a", "b"], use_cpu=True)
    assert made.optim_target_modules == ["a", "b"]


# --- mappings -------------------------------------------------------------------------------------------------


def test_fields_that_hold_mappings_take_them_from_yaml_and_from_json() -> None:
    values = parse_yaml("lr_scheduler_kwargs: {min_lr: 1e-5}\naccelerator_config: {split_batches: true}", "")
    made = one(TrainingArguments, **values, use_cpu=True)
    assert made.lr_scheduler_kwargs == {"min_lr": 1e-5}
    assert made.accelerator_config.split_batches is True
    made = one(TrainingArguments, lr_scheduler_kwargs='{"num_cycles": 2}', use_cpu=True)
    assert made.lr_scheduler_kwargs == {"num_cycles": 2}
    made = one(TrainingArguments, liger_kernel_config='{"rope": "yes"}', use_cpu=True)
    assert made.liger_kernel_config == {"rope": True}


@pytest.mark.parametrize("value", ["words", 3, [1], "{", '{"a": 1', "[1]", {1: 2}])
def test_anything_else_is_refused_for_a_mapping(value: Any) -> None:
    (problem,) = refused(TrainingArguments, lr_scheduler_kwargs=value, use_cpu=True)
    assert problem.startswith("lr_scheduler_kwargs: expected a mapping")
    assert problem.endswith(f", got {shown(value)}")


def test_a_file_for_a_mapping_that_is_not_there_is_refused() -> None:
    (problem,) = refused(StageArguments, accelerator_config="missing.json", use_cpu=True)
    assert problem == "accelerator_config: expected a file, got 'missing.json' (No such file or directory)"


def test_what_transformers_raises_is_a_problem_too() -> None:
    (problem,) = refused(StageArguments, "config", accelerator_config={"colour": 1}, use_cpu=True)
    assert problem.startswith("config: training arguments: ")
    assert "colour" in problem


def test_an_object_of_python_cannot_be_set_from_a_file() -> None:
    expected = "parallelism_config: expected an object, got {'tp_size': 2}"
    assert refused(TrainingArguments, parallelism_config={"tp_size": 2}) == [expected]


# --- choices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "typo", "near"), [("lr_scheduler_type", "linea", "linear"), ("optim", "adamw", "")])
def test_a_value_that_is_not_a_choice_is_refused_with_the_choices(name: str, typo: str, near: str) -> None:
    (problem,) = refused(TrainingArguments, **{name: typo})
    assert problem.startswith(f"{name}: expected one of ")
    assert f", got '{typo}'; did you mean {near}" in problem
    assert {"linear": "cosine", "": "adamw_torch"}[near] in problem


def test_choices_are_taken_as_they_are_written() -> None:
    made = one(TrainingArguments, lr_scheduler_type="cosine", optim="adamw_torch", log_level="info", use_cpu=True)
    assert (made.lr_scheduler_type, made.optim, made.log_level) == ("cosine", "adamw_torch", "info")
    assert refused(TrainingArguments, log_level="loud")[0].startswith("log_level: expected one of detail, debug, ")


# --- all at once ----------------------------------------------------------------------------------------------


def test_null_leaves_the_default() -> None:
    assert one(RunArguments, filter_interval=None, methods=None) == RunArguments()


def test_unknown_keys_and_wrong_values_come_in_one_message_under_the_name_of_the_place() -> None:
    with pytest.raises(InputError) as error:
        from_values(
            (Strict, StudentArguments), {"sise": 1, 3: 4, "share": "fast", "num_layers": "x"}, "recipe section kd"
        )
    assert error.value.problems == [
        "recipe section kd: unknown key sise; did you mean size?",
        "recipe section kd: unknown key 3",
        "recipe section kd: share: expected a number, got 'fast'",
        "recipe section kd: num_layers: expected a whole number, got 'x'",
    ]


def test_what_a_dataclass_refuses_is_added_but_not_what_may_follow_from_a_value_left_out() -> None:
    assert refused(Strict, "config", size=10) == ["config: size: expected at most 9, got 10"]
    assert refused(Strict, "config", share="x", size=10)[1] == "config: size: expected at most 9, got 10"
    assert refused(Strict, "config", share="x", other=2) == ["config: share: expected a number, got 'x'"]
    assert refused(Strict, "config", other=2) == ["config: size and other contradict each other"]


def test_values_are_quoted_in_about_sixty_characters() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    for value in ("x" * 1000, list(range(1000)), {"a": "b" * 99, "c": ["d" * 99] * 9}, deep, 10**100, 16**9999):
        assert len(shown(value)) <= 60
    (problem,) = refused(RunArguments, filter_interval="x" * 1000)
    assert len(problem) <= 120


# --- YAML -----------------------------------------------------------------------------------------------------


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(9),
        bomb(2000),
        "[" * 20_000,
        "[" * 60 + "]" * 60,
        "a: &a [*a]",
        "a: &a {b: *a}",
        "a: &a {b: 1}\n" + "\n".join(f"c{i}: &c{i} {{<<: [{', '.join(['*a'] * 99)}]}}" for i in range(200)),
        f"[{', '.join(['1'] * MAX_NODES)}]",
    ],
    ids=["bomb", "long bomb", "brackets", "closed brackets", "itself", "itself below", "merges", "long"],
)
def test_a_document_that_grows_too_large_is_refused_at_once(text: str) -> None:
    with pytest.raises(InputError, match="expected at most 10,000 values and 50 levels, got more"):
        parse_yaml(text, "recipe")


def test_an_alias_is_a_copy() -> None:
    content = parse_yaml("kd: &shared {kl_alpha: 1}\nted: *shared\nlwd: {<<: *shared, mse_alpha: 2}", "recipe")
    content["ted"]["kl_alpha"] = 9
    assert content["kd"] == {"kl_alpha": 1}
    assert content["lwd"] == {"kl_alpha": 1, "mse_alpha": 2}


@pytest.mark.parametrize(
    "text", ["a: b: c", "[1", "!!float x", "!!bool x", "!!timestamp x", "!!python/name:os.system x", "{[a]: b}", "\0"]
)
def test_text_that_is_not_yaml_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="recipe: not valid YAML"):
        parse_yaml(text, "recipe")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    (tmp_path / "large.yaml").write_text("#" * 1_000_001)
    for name, message in {
        "latin": r"expected UTF-8 text in .*; save it so",
        "large": "expected at most 1,000,000 bytes of YAML, got 1,000,001",
        "larg": "does not exist; did you mean large.yaml",
        "x" * 300: "cannot be read",
    }.items():
        with pytest.raises(InputError, match=message):
            read_yaml(tmp_path / f"{name}.yaml", "config")


# --- flags ----------------------------------------------------------------------------------------------------

NEEDED = ["--model_name_or_path", "m", "--task", "sst2"]


def flags(kind: type, *words: str) -> Any:
    (made,) = parse_flags("x", (kind,), words)
    return made


def wrong_flags(kind: type, *words: str) -> list[str]:
    with pytest.raises(InputError) as error:
        flags(kind, *words)
    return error.value.problems


def test_flags_are_converted_like_values_of_a_file() -> None:
    made = flags(DistillArguments, "--kl_alpha", "1e1", "--filter_interval=2", "--new-head")
    assert (made.kl_alpha, made.filter_interval, made.new_head) == (10.0, 2, True)
    assert flags(DistillArguments, "--pairs", "4:1", "8:2").pairs == ["4:1", "8:2"]
    assert wrong_flags(DistillArguments, "--kl_alpha", "fast", "--filter_interval", "2.5", "--new_head", "2") == [
        "--kl_alpha: expected a number, got 'fast'",
        "--filter_interval: expected a whole number, got '2.5'",
        "--new_head: expected true or false, got '2'",
    ]


def test_a_second_value_that_starts_with_a_dash_is_no_part_of_the_first() -> None:
    said = "expected one value, got 2 (1 -2); put quotes around a value with blanks"
    assert wrong_flags(DistillArguments, "--teacher_filters=1", "-2") == [f"--teacher_filters: {said}"]


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_precision_is_set_by_the_bare_flag(name: str) -> None:
    problems: list[str] = []
    for words in ([f"--{name}"], [f"--{name}", "true"], [f"--{name}=yes"]):
        given = Parser((StageArguments,)).given([*words, "--seed", "3"], problems)
        assert given == {name: True, "seed": 3}
    assert Parser((StageArguments,)).given([f"--{name}", "false"], problems) == {name: False}
    assert not problems


def test_two_words_where_one_belongs_are_refused_with_the_way_out() -> None:
    for words in (["--output_dir", "my", "folder"], ["--output_dir=my", "folder"]):
        assert wrong_flags(StageArguments, *words)[0] == (
            "--output_dir: expected one value, got 2 (my folder); put quotes around a value with blanks"
        )
    assert wrong_flags(TaskArguments, *NEEDED[2:], "--text_column", "text", "label")[0].startswith(
        "--text_column: expected one value, got 2 (text label)"
    )


def test_a_flag_without_its_value_and_a_value_without_its_flag_are_refused() -> None:
    assert wrong_flags(DistillArguments, "4", "--pairs", "--kl_alpha", "--new_head=") == [
        "expected a flag, got 4",
        "--pairs: expected one or more values, got nothing",
        "--kl_alpha: expected a value, got nothing",
        "--new_head: expected true or false, got ''",
    ]
    assert "--no_fast_dropout: expected no value, got '1'" in wrong_flags(StageArguments, "--no_fast_dropout=1")


@pytest.mark.parametrize("text", ["-1e-5", "-1E+3", "-.5", "-2"])
def test_a_negative_number_is_a_value_and_no_flag(text: str) -> None:
    for words in (["--null_score_diff_threshold", text], [f"--null_score_diff_threshold={text}"]):
        assert flags(TaskArguments, "--task", "squad", *words).null_score_diff_threshold == float(text)


def test_a_mapping_on_the_command_line_is_json() -> None:
    made = flags(TrainingArguments, "--output_dir", "o", "--use_cpu", "--lr_scheduler_kwargs", '{"min_lr": 1e-5}')
    assert made.lr_scheduler_kwargs == {"min_lr": 1e-5}
    assert "--lr_scheduler_kwargs: expected a mapping, got 'x'" in wrong_flags(
        TrainingArguments, "--lr_scheduler_kwargs", "x"
    )


def test_problems_of_a_file_and_of_the_flags_beside_it_come_in_one_message(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("kl_alpha: fast\npairs: [[4, 1]]\ntemprature: 1\n")
    assert wrong_flags(DistillArguments, "--config", str(file), "--filter_interval", "x") == [
        "config: kl_alpha: expected a number, got 'fast'",
        "config: unknown key temprature; did you mean temperature?",
        "--filter_interval: expected a whole number, got 'x'",
    ]


def test_flags_win_over_the_file_whichever_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"kl_alpha": 1, "temperature": 3, "new_head": True}))
    for words in (["--kl_alpha=7", f"--config={file}"], ["--config", str(file), "--kl_alpha", "7"]):
        made = flags(DistillArguments, *words)
        assert (made.kl_alpha, made.temperature, made.new_head) == (7.0, 3.0, True)


@pytest.mark.parametrize(
    "words", [["--config"], ["--config", "--seed"], ["--config="], ["--config=a", "--config", "b"]]
)
def test_anything_but_one_file_after_config_is_refused(words: list[str]) -> None:
    assert wrong_flags(DistillArguments, *words)[0].startswith("--config: expected one YAML file, got ")


@pytest.mark.parametrize("text", ["teacher: a\nmethods: [kd]\nteacher: b\n", "kd:\n  kl_alpha: 1\n  kl_alpha: 2\n"])
def test_a_key_given_twice_is_refused_with_its_lines(text: str) -> None:
    with pytest.raises(InputError, match=r"is given twice, in lines \d and 3"):
        parse_yaml(text, "recipe: my.yaml")
