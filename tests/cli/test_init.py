"""`ted init`, `ted run` without a recipe, and a recipe as the config of one stage: the words and what they mean."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModel, AutoModelForSequenceClassification

from ted_distill import InputError, read_recipe
from ted_distill.cli.dialect import changes, read_words
from ted_distill.cli.flags import parse_flags
from ted_distill.cli.init import draft_of
from ted_distill.cli.main import main
from ted_distill.cli.stages import distill_kinds, finetune_kinds, learn_filters_kinds
from ted_distill.models.load import ModelArguments
from ted_distill.runs.drafting.given import read_given
from ted_distill.tasks import TaskArguments
from ted_distill.training.stage_arguments import StageArguments
from tiny import save_tiny, write_reviews

QUICK = ["training.max_steps=2", "--training.disable_tqdm", "--training.use_cpu=true", "training.report_to=none"]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A teacher of four blocks, and rows."""
    folder = tmp_path_factory.mktemp("things")
    return {
        "teacher": str(save_tiny(folder / "big", AutoModel, blocks=4)),
        "train_file": str(write_reviews(folder, 48)),
    }


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- ted init -------------------------------------------------------------------------------------------------------


def test_init_writes_a_recipe_and_says_what_it_decided(
    things: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "init",
        things["teacher"],
        "--train-file",
        things["train_file"],
        "student_num_layers=1",
        "-o",
        "sub/my.yaml",
    ]
    assert main([*words, "--training.learning-rate", "1e-4"]) == 0
    out = capsys.readouterr().out
    assert "task: sequence_classification ('label' holds 2 names" in out
    assert "\nsub/my.yaml\n\nnext: ted check sub/my.yaml; ted run sub/my.yaml; ted compare sub/my.yaml\n" in out
    recipe = read_recipe("sub/my.yaml")
    assert recipe.run.output_dir == "runs/my"
    assert main([*words[:-1], "my own.yaml"]) == 0
    assert "next: ted check 'my own.yaml'; ted run 'my own.yaml';" in capsys.readouterr().out
    assert "#   ted run 'my own.yaml'" in Path("my own.yaml").read_text()
    assert recipe.run.student_num_layers == 1
    assert recipe.stage("kd")["learning_rate"] == 1e-4
    assert main(words) == 2
    assert "expected a new file, got sub/my.yaml, which exists already; give another with -o" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert main(["show", "sub/my.yaml"]) == 0
    assert "blocks 4 of" in capsys.readouterr().out


def test_each_version_of_a_recipe_has_a_folder_of_its_own(things: dict[str, str], here: Path) -> None:
    for name, run in (("my.v1", "my.v1"), ("my.v2", "my.v2"), ("my$y", "my_y")):
        words = [f"teacher={things['teacher']}", f"train_file={things['train_file']}", "-o", f"{name}.yaml"]
        assert main(["init", *words]) == 0
        assert read_recipe(f"{name}.yaml").run.output_dir == f"runs/{run}"


def test_a_disk_on_which_files_have_one_name_only_will_do(
    things: dict[str, str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    words = ["init", f"teacher={things['teacher']}", f"train_file={things['train_file']}", "-o", "my.yaml"]
    assert main(words) == 0
    assert read_recipe("my.yaml").run.output_dir == "runs/my"
    assert main(words) == 2
    assert [file.name for file in here.glob("*") if file.suffix != ".jsonl"] == ["my.yaml"]


def test_without_a_name_the_file_is_named_after_the_data(things: dict[str, str], here: Path) -> None:
    assert main(["init", f"teacher={things['teacher']}", f"train_file={things['train_file']}"]) == 0
    assert read_recipe("reviews.yaml").run.output_dir == "runs/reviews"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--train_file", "x.csv"],
            "teacher: expected a folder or Hub id, got nothing; write ted init TEACHER --train_file",
        ),
        (["big", "-o"], "-o: expected a file to write, got nothing; write -o RECIPE.yaml"),
        (["big", "-o", "--force"], "-o: expected a file to write, got --force"),
        (["big", "small"], "override: expected key=value or --key value, got small"),
        (["big", "--train_fil", "x.csv"], "recipe: unknown key train_fil; did you mean train_file?"),
        (
            ["big", "--learning_rate", "1e-4"],
            "recipe: unknown key learning_rate; did you mean training.learning_rate (all",
        ),
        (
            ["big", "--train_file", "x.csv", "training.per_device_train_batch_size=auto"],
            "recipe section training: per_device_train_batch_size: expected a whole number, got 'auto'",
        ),
        (["big", "--train_file", "x.csv", "--student.trimm", "train"], "unknown key student.trimm; did you mean trim?"),
        (["./big", "--train_file", "x.csv"], "got the folder ./big, which does not exist"),
    ],
)
def test_wrong_words_are_refused(words: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("ted init: invalid input\n- ")
    assert not list(here.iterdir())


def test_a_teacher_without_weights_is_refused_by_init_and_show(
    things: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(here / "exported", AutoModel, blocks=2)
    (here / "exported" / "model.safetensors").unlink()
    (here / "exported" / "onnx").mkdir()
    words = ["--teacher", "exported", "--train_file", things["train_file"]]
    for command in ("init", "show"):
        assert main([command, *words]) == 2
        said = "model: expected weights, such as model.safetensors, in exported, got an ONNX export; give the"
        assert said in capsys.readouterr().err
    assert not list(here.glob("*.yaml"))


def test_init_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["init", "--help"], ["init", "big", "-h"]):
        assert main(words) == 0
        assert capsys.readouterr().out.startswith("usage: ted init TEACHER --train_file FILE")


# --- ted run and show without a recipe ------------------------------------------------------------------------------


@pytest.mark.long
def test_run_takes_flags_in_place_of_a_recipe_and_the_same_command_finds_everything_finished(
    things: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = ["run", *(f"--{key}={value}" for key, value in things.items()), "--methods=[kd]", *QUICK]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "# Guessed: 'label' holds 2 names" in out
    assert "| KD" in out
    folder = here / "runs" / "reviews-big"
    kept = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert kept["student_num_layers"] == 2
    assert kept["training"]["max_steps"] == 2
    caplog.clear()
    assert main(words) == 0
    assert caplog.text.count("is finished, skipped") == 3
    assert main(["run", "--config", str(folder / "recipe.yaml")]) == 0


def test_show_takes_flags_too_and_both_ask_for_what_is_missing(
    things: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *(f"{key}={value}" for key, value in things.items())]) == 0
    assert "pairs" in capsys.readouterr().out
    assert main(["run", "--teacher", things["teacher"]]) == 2
    said = capsys.readouterr().err
    assert "expected a recipe, got --teacher; write ted run RECIPE [key=value ...]" in said
    assert "or ted run --teacher MODEL --train_file FILE" in said


def test_a_student_that_was_measured_is_not_measured_again_where_its_run_goes_on(
    things: dict[str, str], here: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "run").mkdir()
    (here / "run" / "recipe.yaml").write_text(yaml.safe_dump({"teacher": things["teacher"], "student_num_layers": 3}))
    given = [f"{key}={value}" for key, value in things.items()] + ["output_dir=run", "student_latency=0.3"]
    assert draft_of("run", given).recipe.run.student_num_layers == 3
    assert "student_latency: not measured again, as run has a run with student_num_layers 3" in caplog.text
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="student_latency: expected one process, got several"):
        draft_of("run", given)


# --- one dialect ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "recipe", "meant"),
    [
        ("my.yaml --a 1 b=2 --c=3", "my.yaml", ["a=1", "b=2", "c=3"]),
        ("--config my.yaml --a 1", "my.yaml", ["a=1"]),
        ("a=1 --config=my.yaml", "my.yaml", ["a=1"]),
        ("--a 1", None, ["a=1"]),
        ("a=1", None, ["a=1"]),
        ("", None, []),
    ],
)
def test_a_recipe_comes_first_or_after_config_or_not_at_all(words: str, recipe: str | None, meant: list[str]) -> None:
    assert read_words(words.split()) == (recipe, meant)


def test_a_file_with_an_equals_sign_is_a_file(here: Path) -> None:
    (here / "a=b.yaml").write_text("")
    assert read_words(["a=b.yaml"]).recipe == "a=b.yaml"


def test_dashes_in_keys_are_underscores_but_not_in_names_that_users_choose() -> None:
    words = [
        "--max-seq-length",
        "8",
        "learn-filters.max-steps=2",
        "score_on.wiki-103.train-file=a-b",
        "--score-on",
        "x",
    ]
    assert changes(words) == [
        "max_seq_length=8",
        "learn_filters.max_steps=2",
        "score_on.wiki-103.train_file=a-b",
        "score_on=x",
    ]


def test_a_flag_that_is_true_or_false_takes_no_word_with_an_equals_sign() -> None:
    assert changes(["--streaming", "task=x"]) == ["streaming=true", "task=x"]
    assert changes(["--training.bf16", "seed=1"]) == ["training.bf16=true", "seed=1"]
    assert changes(["--config_overrides", "a=1", "seed=1"]) == ["config_overrides=a=1", "seed=1"]


def parsed(words: list[str], kinds: Any = finetune_kinds, command: str = "finetune") -> dict[type, Any]:
    return {type(part): part for part in parse_flags(command, kinds(), words)}


def test_stages_take_key_value_as_well_as_flags() -> None:
    words = ["task=sst2", "--model_name_or_path", "m", "learning_rate=1e-4", "--use_cpu", "seed=3", "--output_dir=o",
             "config_overrides=a=1"]  # fmt: skip
    found = parsed(words)
    assert found[StageArguments].learning_rate == 1e-4
    assert (found[StageArguments].seed, found[StageArguments].use_cpu) == (3, True)
    assert found[TaskArguments].task == "sst2"
    assert found[ModelArguments].config_overrides == "a=1"
    assert (
        parsed(["--task", "sst2", "model_name_or_path=m", "output_dir=o", "--config_overrides", "seed=1"])[
            ModelArguments
        ].config_overrides
        == "seed=1"
    )
    with pytest.raises(InputError, match="unknown flag --lerning_rate; did you mean --learning_rate"):
        parsed(["lerning_rate=1"])


# --- a recipe as the config of one stage ----------------------------------------------------------------------------

RECIPE = {
    "task": "sequence_classification", "train_file": "t.csv", "validation_size": 9, "max_seq_length": 32,
    "teacher": "big", "student_num_layers": 3, "methods": ["alone", "kd", "ted"], "output_dir": "runs/x",
    "filter_output_dim": 24,
    "trust_remote_code": True,
    "training": {"seed": 7, "learning_rate": 1e-3, "use_cpu": True},
    "finetune": {"learning_rate": 2e-3}, "finetune_teacher": {"num_train_epochs": 4},
    "finetune_student": {"num_train_epochs": 5},
    "learn_filters": {"num_train_epochs": 6}, "distill": {"mse_alpha": 20, "kl_alpha": 2}, "kd": {"kl_alpha": 3},
}  # fmt: skip


@pytest.fixture
def recipe(here: Path) -> list[str]:
    (here / "r.yaml").write_text(yaml.safe_dump(RECIPE))
    return ["--config", "r.yaml", "--output_dir", "o"]


def test_finetune_reads_its_sections_of_a_recipe_and_says_which(
    recipe: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = parsed(recipe)
    args = found[StageArguments]
    assert (args.seed, args.learning_rate, args.num_train_epochs, args.output_dir) == (7, 2e-3, 4, "o")
    assert found[finetune_kinds()[0]].model_name_or_path == "big"
    assert found[TaskArguments].validation_size == 9
    assert found[ModelArguments].trust_remote_code is True
    assert caplog.messages == [
        "config: r.yaml is a recipe; finetune reads its keys of task and models and sections training, finetune, "
        "finetune_teacher; not used: distill, filter_output_dim, finetune_student, kd, learn_filters, methods, "
        "output_dir, student_num_layers"
    ]


def test_keys_of_a_student_are_those_of_the_recipe_wherever_it_is_read(here: Path) -> None:
    keys = {key: value for key, value in RECIPE.items() if key != "student_num_layers"}
    (here / "r.yaml").write_text(yaml.safe_dump({**keys, "student": {"model": "small", "trim": "train"}}))
    found = parsed(["--config", "r.yaml", "--output_dir", "o", "--model_name_or_path", "small"])
    assert found[StageArguments].num_train_epochs == 5
    given = read_given({"teacher": "big", "train_file": "t.csv", "student": {"layers": [1, 2]}})
    assert given.run.student_layers == [1, 2]


def test_the_students_own_section_is_read_for_the_recipes_student(here: Path) -> None:
    (here / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "student": "small", "student_num_layers": None}))
    found = parsed(["--config", "r.yaml", "output_dir=o", "model_name_or_path=small"])
    assert found[StageArguments].num_train_epochs == 5


def test_learn_filters_reads_the_shape_of_filters_too(recipe: list[str]) -> None:
    found = parsed(recipe, learn_filters_kinds, "learn-filters")
    assert found[StageArguments].num_train_epochs == 6
    assert found[learn_filters_kinds()[1]].filter_output_dim == 24


@pytest.mark.parametrize(
    ("words", "alphas"), [([], (2, 20)), (["method=kd"], (3, None)), (["--kl_alpha", "9"], (9, 20))]
)
def test_distill_reads_the_sections_of_its_method_and_flags_win(
    words: list[str], alphas: tuple[float, float | None], recipe: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    models = ["--teacher_name_or_path", "tuned", "--student_name_or_path", "small"]
    found = parsed([*recipe, *models, *words], distill_kinds, "distill")
    own = found[distill_kinds()[1]]
    assert own.method == ("kd" if words == ["method=kd"] else "ted")
    assert (own.kl_alpha, own.mse_alpha) == alphas
    assert found[distill_kinds()[0]].teacher_name_or_path == "tuned"
    assert "distill reads its keys of task and models and sections training, distill" in caplog.text


def test_keys_that_several_methods_share_are_left_out_for_one_that_has_no_use_for_them(here: Path) -> None:
    (here / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "kd": None}))
    models = ["teacher_name_or_path=a", "student_name_or_path=b"]
    found = parsed(["--config", "r.yaml", "output_dir=o", "method=kd", *models], distill_kinds, "distill")
    assert (found[distill_kinds()[1]].kl_alpha, found[distill_kinds()[1]].mse_alpha) == (2, None)


def test_a_student_that_a_run_would_make_has_to_be_named(recipe: list[str]) -> None:
    with pytest.raises(InputError) as error:
        parsed(recipe, distill_kinds, "distill")
    assert error.value.problems == ["--student_name_or_path is missing; this command needs it"]


def test_the_runs_folder_is_not_a_stages_folder(recipe: list[str]) -> None:
    with pytest.raises(InputError, match="--output_dir is missing"):
        parsed(recipe[:2])


def test_a_wrong_key_of_a_section_that_is_read_is_refused(here: Path) -> None:
    (here / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "finetune": {"lerning_rate": 1}}))
    with pytest.raises(InputError, match="config: unknown key lerning_rate; did you mean learning_rate"):
        parsed(["--config", "r.yaml", "output_dir=o"])
    (here / "r.yaml").write_text(yaml.safe_dump({**RECIPE, "finetune": 3}))
    with pytest.raises(InputError, match="config section finetune: expected `key: value` lines, got 3"):
        parsed(["--config", "r.yaml", "output_dir=o"])


def test_a_config_of_flags_alone_is_read_as_before(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "flags.yaml").write_text(
        yaml.safe_dump({"task": "sst2", "model_name_or_path": "m", "output_dir": "o", "seed": 5})
    )
    assert parsed(["--config", "flags.yaml"])[StageArguments].seed == 5
    assert not caplog.messages


def test_a_stage_runs_from_a_drafted_recipe(
    things: dict[str, str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", things["teacher"], "train_file=" + things["train_file"], "-o", "r.yaml", *QUICK]) == 0
    assert main(["finetune", "--config", "r.yaml", "output_dir=tuned"]) == 0
    assert AutoModelForSequenceClassification.from_pretrained(here / "tuned").config.num_hidden_layers == 4
