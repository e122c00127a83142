"""What a run can refuse is refused before anything is trained: whatever its last stage cannot do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSequenceClassification, BartConfig

from ted_distill import InputError, TaskArguments, load_task, read_recipe, run
from ted_distill.cli.main import main
from ted_distill.models.load import ModelArguments
from ted_distill.runs import run as runs
from ted_distill.runs import steps
from ted_distill.runs.further_data import check_further
from ted_distill.runs.planning import plan as plan_of
from ted_distill.runs.planning import plan_stages
from ted_distill.runs.recipe import make_recipe
from ted_distill.runs.run import RunOfRecipe
from ted_distill.runs.run_folder import RunFolder
from ted_distill.runs.steps import Steps
from tiny import CLASSES, save_tiny, tiny_tokenizer, write_questions, write_reviews, write_text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a teacher of 4 blocks, students of 2 and 3, one with other words and one with other labels."""
    folder = tmp_path_factory.mktemp("inputs")
    write_reviews(folder, 12)
    for name, blocks in (("teacher", 4), ("student", 2), ("student3", 3), ("other_words", 2)):
        save_tiny(folder / name, AutoModelForSequenceClassification, blocks=blocks, seed=blocks, **CLASSES)
    save_tiny(folder / "other_labels", AutoModelForSequenceClassification, id2label={0: "dull", 1: "fine"})
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["opera"])
    tokenizer.save_pretrained(folder / "other_words")
    return folder


@pytest.fixture
def recipe(folder: Path, tmp_path: Path) -> Any:
    """Writes a recipe that would work but for `changes`."""

    def write(**changes: Any) -> Path:
        rows = str(folder / "reviews.jsonl")
        content = {
            "task": "sequence_classification", "train_file": rows, "validation_file": rows,
            "teacher": str(folder / "teacher"), "student": str(folder / "student"), "output_dir": str(tmp_path / "run"),
            "training": {"max_steps": 1, "report_to": "none", "disable_tqdm": True},
        }  # fmt: skip
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump({**content, **changes}))
        return file

    return write


def problems_of(file: Path, *overrides: str) -> list[str]:
    """What `ted run` refuses, having written nothing; `ted show` refuses it too."""
    with pytest.raises(InputError) as error:
        run(read_recipe(file, list(overrides)))
    assert not (file.parent / "run").exists()
    assert main(["show", str(file), *overrides]) == 2
    return error.value.problems


# --- values of all stages -------------------------------------------------------------------------------------


def test_numbers_of_all_sections_are_checked_at_once(recipe: Any) -> None:
    file = recipe(
        max_seq_length=0,
        finetune_teacher={"num_train_epochs": -1},
        learn_filters={"gradient_accumulation_steps": -1},
        kd={"temperature": 0},
        ted={"kl_alpha": -1, "learning_rate": float("nan")},
        score_on={"more": {"task": "sst2", "mlm_probability": 2}},
    )
    with pytest.raises(InputError) as error:
        read_recipe(file)
    assert sorted(problem.partition(": expected")[0] for problem in error.value.problems) == [
        "recipe section finetune_teacher: num_train_epochs",
        "recipe section kd: temperature",
        "recipe section learn_filters: gradient_accumulation_steps",
        "recipe section score_on.more: mlm_probability",
        "recipe section ted: kl_alpha",
        "recipe section ted: learning_rate",
        "recipe: max_seq_length",
    ]


@pytest.mark.parametrize("value", ["fast", -1])
def test_a_value_that_every_stage_overrides_is_checked_too(recipe: Any, value: Any) -> None:
    own = {name: {"learning_rate": 1e-4} for name in ("finetune", "learn_filters", "distill")}
    with pytest.raises(InputError) as error:
        read_recipe(recipe(**own, training={"max_steps": 1, "learning_rate": value}))
    (problem,) = error.value.problems
    assert problem.startswith("recipe section training: learning_rate: expected a number")


def test_contradictions_in_a_stage_are_found_when_the_recipe_is_read(recipe: Any) -> None:
    with pytest.raises(InputError, match="recipe section ted: optim: expected an optimizer that can be made here"):
        read_recipe(recipe(ted={"optim": "schedule_free_sgd"}))
    with pytest.raises(InputError, match="recipe section kd: mse_alpha: expected 0, as method kd matches no"):
        read_recipe(recipe(kd={"mse_alpha": 1}))
    assert read_recipe(recipe(methods=["lwd", "ted"], distill={"mse_alpha": 1}))


def test_what_the_run_sets_itself_is_refused_in_a_section(recipe: Any) -> None:
    with pytest.raises(InputError, match="recipe section kd: unknown key method, which the run sets; leave it out"):
        read_recipe(recipe(kd={"method": "ted"}))
    # Learnt filters are those that the run learns.
    for section, values in (
        ("ted", {"ted": {"teacher_filters": "/nonexistent"}}),
        ("distill", {"distill": {"teacher_filters": "."}}),
    ):
        with pytest.raises(InputError, match=f"section {section}: unknown key teacher_filters, which the run sets"):
            read_recipe(recipe(**values))
    with pytest.raises(InputError, match="recipe: unknown key teacher_filters, which the run sets; leave it out"):
        read_recipe(recipe(teacher_filters="."))


def test_what_is_wrong_with_several_folders_alike_is_said_once(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: RunOfRecipe, name: str) -> None:
        change = "seed was 1, now 2" if name == "ted" else "max_seq_length was 64, now 512"
        raise InputError(f"output_dir: expected {self.at.arguments(name)[0].output_dir} to be free, got {change}")

    monkeypatch.setattr(RunOfRecipe, "_check_stage", refuse)
    started = RunOfRecipe(read_recipe(recipe(), ["methods=[kd,lwd,ted]"]))
    with pytest.raises(InputError) as error:
        started.check()
    run = started.at.folder
    alike, other = error.value.problems
    assert alike.startswith(f"output_dir: expected each of {run}/")
    assert alike.endswith(f", {run}/kd and {run}/lwd to be free, got max_seq_length was 64, now 512")
    assert other == f"output_dir: expected {run}/ted to be free, got seed was 1, now 2"


def test_a_misspelt_key_of_a_section_is_answered_with_its_section(recipe: Any) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(recipe(), ["lerning_rate=3", "mse_alfa=1", "methd=kd", "method=kd"])
    assert error.value.problems == [
        "recipe: unknown key lerning_rate; did you mean training.learning_rate (all stages), or one of "
        "finetune.learning_rate, learn_filters.learning_rate, distill.learning_rate?",
        "recipe: unknown key mse_alfa; did you mean distill.mse_alpha (all methods), or that of one, as ted.mse_alpha?",
        "recipe: unknown key methd; did you mean methods?",
        "recipe: unknown key method; did you mean methods?",
    ]


def test_a_key_of_a_section_at_the_top_is_answered_with_its_section(recipe: Any) -> None:
    with pytest.raises(InputError) as error:
        read_recipe(recipe(), ["bf16=true", "kl_alpha=1"])
    assert error.value.problems == [
        "recipe: unknown key bf16; did you mean training.bf16 (all stages), or one of finetune.bf16, "
        "learn_filters.bf16, distill.bf16?",
        "recipe: unknown key kl_alpha; did you mean distill.kl_alpha (all methods), or that of one, as ted.kl_alpha?",
    ]


@pytest.mark.parametrize("name", ["../../outside", "a/b", "/tmp/x", "..", ".hidden", "", "a b", "x" * 61, 3, "a\nb"])
def test_a_name_that_could_leave_the_folder_of_the_run_is_refused(recipe: Any, name: Any) -> None:
    with pytest.raises(InputError, match="recipe section score_on: expected names of at most 60 letters"):
        read_recipe(recipe(score_on={name: {"task": "sst2"}}))


def test_a_methods_name_given_twice_and_a_task_that_does_not_exist_are_refused(recipe: Any) -> None:
    with pytest.raises(InputError, match="recipe: methods: expected each of them once, got kd several times"):
        read_recipe(recipe(methods=["kd", "lwd", "kd"]))
    with pytest.raises(InputError, match=r"task: expected one of .* got 'sst3'"):
        read_recipe(recipe(task="sst3"))


# --- models ---------------------------------------------------------------------------------------------------


def test_a_student_that_is_not_there_is_refused_before_the_teacher_is_trained(recipe: Any, folder: Path) -> None:
    (problem,) = problems_of(recipe(student=str(folder / "studnet")))
    assert f"got the folder {folder / 'studnet'}, which does not exist" in problem


def test_a_student_that_the_hub_does_not_give_is_refused_before_the_teacher_is_trained(
    recipe: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        run(read_recipe(recipe(student="nobody/no-such-model")))
    assert all("nobody/no-such-model" in problem for problem in error.value.problems)
    assert error.value.problems[0].startswith("student: model: expected ")
    assert not (tmp_path / "run").exists()


def test_a_student_with_other_words_is_refused(recipe: Any, folder: Path) -> None:
    (problem,) = problems_of(recipe(student=str(folder / "other_words")))
    assert problem.startswith("tokenizers: expected one for both")


def test_a_student_taken_as_it_is_with_other_labels_is_refused(recipe: Any, folder: Path) -> None:
    (problem,) = problems_of(recipe(student=str(folder / "other_labels"), finetune_student=False))
    assert problem.startswith(f"labels: expected {folder / 'other_labels'} to have the data's labels")
    assert "take finetune_student: false out of the recipe, or fine-tune the model" in problem


def test_kd_needs_no_pairs_so_any_depths_will_do(recipe: Any, folder: Path) -> None:
    file = recipe(student=str(folder / "student3"), methods=["kd"])
    assert main(["show", str(file)]) == 0
    assert run(read_recipe(file))["kd"]["steps"] == 1


def test_pairs_in_the_section_of_a_method_are_checked_with_all_others(recipe: Any) -> None:
    found = problems_of(recipe(lwd={"pairs": ["9:1"]}, ted={"pairs": ["4:3"]}))
    assert "pairs: expected blocks 1 to 4 of the teacher, got 9" in found
    assert "pairs: expected blocks 1 to 2 of the student, got 3" in found


@pytest.mark.parametrize("own", [{"pairs": ["1:1"]}, {"teacher_filter_interval": 1, "filter_interval": 1}])
def test_ted_cannot_match_blocks_for_which_no_filters_are_learnt(recipe: Any, own: dict[str, Any]) -> None:
    if "pairs" not in own:
        own = {"teacher_filter_interval": 4, "filter_interval": 2}
    (problem, *_) = problems_of(recipe(ted=own))
    assert problem.startswith("recipe section ted: expected blocks of the teacher with filters of Stage I (2, 4), got ")


# --- scores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss", "eval_loss", "acuracy"])
def test_a_score_to_choose_by_that_does_not_exist_is_refused_for_all_stages(recipe: Any, name: str) -> None:
    (problem,) = problems_of(recipe(distill={"metric_for_best_model": name}))
    assert problem.startswith("metric_for_best_model: expected one of accuracy, f1_macro")
    assert f"got '{name}'" in problem


def test_a_direction_that_contradicts_the_score_is_refused(recipe: Any) -> None:
    file = recipe(training={"max_steps": 1, "metric_for_best_model": "eval_accuracy", "greater_is_better": False})
    (problem,) = problems_of(file)
    assert problem == ("greater_is_better: expected true, as a greater accuracy is better, got false; leave it out")


def test_data_without_rows_to_score_on_are_refused_for_all_stages_that_score(recipe: Any) -> None:
    with pytest.raises(InputError, match="data: expected rows to score on, got none; give --validation_file"):
        run(read_recipe(recipe(validation_file=None, finetune={"eval_strategy": "no"})))


# --- how models are loaded ------------------------------------------------------------------------------------


def test_every_model_is_loaded_as_the_recipe_says(recipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[ModelArguments | None, ...]] = {}

    def stop(stage: str, *models: int) -> Any:
        def opened(*given: Any) -> Any:
            seen[stage] = tuple(given[place] for place in models)
            raise InputError("seen")

        return opened

    monkeypatch.setattr(steps, "open_distill", stop("distill", 5, 6))
    monkeypatch.setattr(steps, "open_learn_filters", stop("learn_filters", 4))
    file = recipe(
        start_from="pretrained", methods=["kd", "lwd"], config_overrides="hidden_dropout_prob=0", model_revision="v1",
        trust_remote_code=True, finetune_teacher=False,
    )  # fmt: skip
    as_given, as_trained = ModelArguments("hidden_dropout_prob=0", "v1", True), ModelArguments(trust_remote_code=True)
    started = runs.RunOfRecipe(read_recipe(file))
    for method in ("kd", "lwd"):
        with pytest.raises(InputError, match="seen"):
            started._open(method)
        assert seen.pop("distill") == (as_given, as_given)  # the student, the teacher
    learnt = ["start_from=finetuned", "methods=[ted]", "ted.student_filters=learned"]
    started = runs.RunOfRecipe(read_recipe(file, learnt))
    for owner, expected in (("teacher", as_given), ("student", as_trained)):
        with pytest.raises(InputError, match="seen"):
            started._open(f"learn_filters_{owner}")
        assert seen.pop("learn_filters") == (expected,)
    with pytest.raises(InputError, match="seen"):
        started._open("ted")
    assert seen.pop("distill") == (as_trained, as_trained)


def test_a_raw_student_gets_the_recipes_changes_to_its_config(recipe: Any, folder: Path, tmp_path: Path) -> None:
    run(read_recipe(recipe(start_from="pretrained", methods=["kd"], config_overrides="hidden_dropout_prob=0")))
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "kd")
    assert student.config.hidden_dropout_prob == 0


def test_rows_without_labels_that_stage_two_cannot_have_are_refused_before_the_first_stage(
    recipe: Any, folder: Path, tmp_path: Path
) -> None:
    swap = problems_of(recipe(distill={"augment": ["swap"]}))
    assert swap == ["augment: expected pairs of texts for swap, got single texts; leave swap out"]
    (share,) = problems_of(recipe(distill={"unlabelled_share": 0.5}))
    assert share.startswith("unlabelled_share: expected unlabelled_file or augment with it, got 0.5 and neither")
    blank = tmp_path / "blank.txt"
    blank.write_text("\n\n")
    (problem,) = problems_of(recipe(unlabelled_file=str(blank)))
    assert "unlabelled_file" in problem
    assert "\n" not in problem


def test_a_plan_counts_the_rows_without_labels(recipe: Any, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("the film was good.\n" * 12)
    longer = {"training": {"num_train_epochs": 1, "per_device_train_batch_size": 4}}

    def steps(**changes: Any) -> dict[str, Any]:
        plan = plan_of(read_recipe(recipe(**longer, **changes)))
        return {stage.name: stage.steps for stage in plan_stages(plan)}

    plain, more = steps(), steps(unlabelled_file=str(texts), distill={"augment": ["mask"]})
    assert more.pop("ted") == 9
    assert plain.pop("ted") == 3
    assert more["finetune_teacher"] == plain["finetune_teacher"] == 3


# --- what a method cannot have --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["hidden"], "student_hidden_size": 8}, "method: expected models of one width with method hidden"),
        (
            {"methods": ["kd"], "student_hidden_size": 9},
            "student_hidden_size: expected a multiple of 8 up to 16, which keeps whole heads, got 9",
        ),
        (
            {"methods": ["lwd"], "lwd": {"pair_weights": [1, 2, 3]}},
            "pair_weights: expected one for each of 2 pairs, got 3",
        ),
        (
            {"methods": ["attention"], "attention": {"attention_pair": "9:2"}},
            "a block of the teacher from 1 to 4, got 9",
        ),
        (
            {"methods": ["ted_attention"], "distill": {"relation_heads": 3}},
            "relation_heads: expected a number that divides",
        ),
        (
            {"methods": ["lwd"], "lwd": {"student_filters": "learned"}},
            "expected least_squares or random with method lwd",
        ),
        (
            {
                "methods": ["kd", "lwd"],
                "lwd": {"layer_schedule": "layers_first"},
                "training": {"early_stopping_patience": 2, "eval_strategy": "epoch", "save_strategy": "epoch"},
            },
            "layer_schedule: expected constant or decay with early_stopping_patience",
        ),
        ({"methods": ["ted"], "ted": {"student_filters": "least"}}, "student_filters: expected learned, least_squares"),
        ({"methods": ["kd"], "kd": {"learning_rate": "auto"}}, "learning_rate: expected at least 40 rows to train on"),
        ({"methods": ["ted"], "training": {"learning_rate": "auto"}}, "learning_rate: expected a number for Stage I"),
    ],
)
def test_what_the_last_stage_cannot_do_is_refused_before_the_teacher_is_trained(
    recipe: Any, changes: dict[str, Any], message: str
) -> None:
    made = {"student": None, "student_layers": [2, 4]} if "student_hidden_size" in changes else {}
    assert any(message in problem for problem in problems_of(recipe(**made, **changes)))


def test_a_family_whose_attention_cannot_be_matched_is_refused_before_the_teacher_is_trained(
    recipe: Any, tmp_path: Path
) -> None:
    config = BartConfig(
        vocab_size=40, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_attention_heads=2, decoder_ffn_dim=24, max_position_embeddings=150, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, decoder_start_token_id=2, **CLASSES,
    )  # fmt: skip
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "bart")
    tiny_tokenizer(token_type_ids=False).save_pretrained(tmp_path / "bart")
    file = recipe(teacher=str(tmp_path / "bart"), student=str(tmp_path / "bart"), methods=["attention"])
    assert any("queries, keys and values of its own in each block" in problem for problem in problems_of(file))


# --- further data ---------------------------------------------------------------------------------------------


def further(folder: Path, labels: list[Any], **changes: Any) -> dict[str, Any]:
    """`score_on` with a file of rows that have these labels, in turn."""
    file = folder / "further.jsonl"
    rows = ({"text": f"a film number {number}", "label": labels[number % len(labels)]} for number in range(8))
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"more": {"task": "sequence_classification", "validation_file": str(file), **changes}}


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        ([0.5, 2.0], "regression", "task: expected one that models of task sequence_classification can do"),
        ([["bad"], ["good"]], "multi_label_classification", "task: expected one that models of task sequence_class"),
        (["pos", "neg"], "sequence_classification", "labels: expected those of the run's data (bad, good)"),
        (["good", "bad", "so"], "sequence_classification", "labels: expected those of the run's data (bad, good)"),
        (["neg"], "sequence_classification", "expected the labels bad, good, got 'neg'"),
    ],
)
def test_further_data_that_the_models_cannot_be_scored_on_are_refused_by_run_and_check(
    recipe: Any,
    tmp_path: Path,
    labels: list[Any],
    task: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = recipe(score_on=further(tmp_path, labels, task=task))
    with pytest.raises(InputError) as error:
        run(read_recipe(file))
    (problem,) = error.value.problems
    assert problem.startswith("recipe section score_on.more: ")
    assert message in problem
    assert not (tmp_path / "run").exists()
    assert main(["check", str(file)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("labels", [["Good", "bad"], ["bad", "good"], ["good"]])
def test_further_data_with_the_labels_of_the_run_or_some_of_them_are_accepted(
    recipe: Any, tmp_path: Path, labels: list[str]
) -> None:
    runs.RunOfRecipe(read_recipe(recipe(score_on=further(tmp_path, labels)))).check()


def test_further_data_that_are_training_or_validation_rows_are_said(
    recipe: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = {"task": "sequence_classification", "validation_file": str(folder / "reviews.jsonl")}
    runs.RunOfRecipe(read_recipe(recipe(score_on={"more": more}))).check()
    trained, chosen = [
        line for line in caplog.messages if line.startswith("recipe section score_on.more: validation: ")
    ]
    assert "not trained on, got 12 of 12 (100.0 %)" in trained
    assert "no weights are chosen by, got 12 of 12 (100.0 %)" in chosen


def test_further_data_for_given_models_without_names_of_labels_need_only_as_many(
    recipe: Any, folder: Path, tmp_path: Path
) -> None:
    teacher = str(save_tiny(tmp_path / "unnamed", AutoModelForSequenceClassification, blocks=4))
    given = {"teacher": teacher, "student": None, "student_layers": [2], "finetune_teacher": False}
    runs.RunOfRecipe(read_recipe(recipe(**given, score_on=further(tmp_path, ["pos", "neg"])))).check()


def test_further_data_with_some_of_the_labels_are_scored_by_given_models_without_names_as_they_were_checked(
    recipe: Any, folder: Path, tmp_path: Path
) -> None:
    """The model has no names, so that the labels which the rows lack are known from the run's data alone."""
    teacher = str(save_tiny(tmp_path / "unnamed", AutoModelForSequenceClassification, blocks=4))
    given = {"teacher": teacher, "student": None, "student_layers": [2], "finetune_teacher": False}
    file = recipe(**given, score_on=further(tmp_path, ["good"]))
    runs.RunOfRecipe(read_recipe(file)).check()
    found = Steps(read_recipe(file)).make("score_teacher_on_more")
    assert 0 <= found["more_accuracy"] <= 100


@pytest.mark.parametrize(
    ("task", "write", "own", "name", "others"),
    [
        ("causal_lm", write_text, {}, "word", "last_word"),
        ("squad_v2", write_questions, {"doc_stride": 8}, "HasAns", "squad_v2"),
        ("sequence_classification", write_reviews, {}, "more_more", "sequence_classification"),
    ],
)
def test_further_data_whose_scores_have_the_name_of_other_results_are_refused(
    tmp_path: Path, task: str, write: Any, own: dict[str, Any], name: str, others: str
) -> None:
    rows = str(write(tmp_path))
    main_task = load_task(TaskArguments(task, train_file=rows, validation_file=rows, max_seq_length=64, **own))
    with_test = TaskArguments(others, validation_file=rows, max_seq_length=64, **own)
    further_tasks = {name: load_task(with_test)}
    if name == "more_more":  # `more` on rows of a split that is called so
        further_tasks = {"more_test": load_task(with_test), "more": load_task(replace(with_test, test_file=rows))}
    at = RunFolder(make_recipe({"task": task, "teacher": "t", "student": "s", "output_dir": str(tmp_path / "r")}))
    assert main_task.rows
    with pytest.raises(InputError, match=r"expected another name, as .* of the run's results would be replaced"):
        check_further(main_task, further_tasks, at)


@pytest.mark.parametrize("name", ["best", "last"])
def test_further_data_have_no_name_that_hides_their_scores(recipe: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"score_on\.{name}: expected another name"):
        read_recipe(recipe(score_on={name: further(tmp_path, ["bad", "good"])["more"]}))
