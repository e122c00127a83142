"""Results say how the weights were chosen, and hold the last score and those on test rows beside the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import ClassLabel, Dataset
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification

from ted_distill import (
    InputError,
    LearnFiltersArguments,
    StageArguments,
    Task,
    TaskArguments,
    evaluate,
    finetune,
    learn_filters,
    load_task,
    read_recipe,
    run,
)
from ted_distill.cli.stages import EvaluateArguments
from ted_distill.output import published_damage, read_manifest
from ted_distill.stages.evaluate import score_predictions
from ted_distill.stages.finetune import FinetuneTrainer, open_finetune
from ted_distill.training.shown.model_card import with_scores
from tiny import CLASSES, save_tiny, write_reviews

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name, rows in (("train", 24), ("validation", 11), ("test", 7), ("other", 9)):
        write_reviews(folder, rows, name)
    save_tiny(folder / "model", AutoModelForSequenceClassification, initializer_range=0.2)
    return folder


def task(folder: Path, **changes: Any) -> Task:
    files = {"train_file": "train.jsonl", "validation_file": "validation.jsonl", **changes}
    return load_task(
        TaskArguments(
            "sequence_classification",
            **{
                name: str(folder / value) if name.endswith("_file") and value else value
                for name, value in files.items()
            },
        )
    )


def arguments(folder: Path, **changes: Any) -> StageArguments:
    found = {
        "per_device_train_batch_size": 8, "num_train_epochs": 3, "learning_rate": 1e-3, "disable_tqdm": True,
        "use_cpu": True, **changes,
    }  # fmt: skip
    return StageArguments(str(folder), **found)


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "all_results.json").read_text())


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Accuracies of the evaluations to come, whatever the weights."""
    found = [50.0, 70.0, 60.0]
    coming = iter(found)
    monkeypatch.setattr(FinetuneTrainer, "score", lambda self: {"accuracy": next(coming), "f1_macro": 1.0})
    return found


def test_results_name_rows_and_number_of_evaluations_and_hold_the_last_score(
    made: Path, tmp_path: Path, scripted: list[float]
) -> None:
    results = finetune(made / "model", task(made), arguments(tmp_path / "out"))
    assert results == results_of(tmp_path / "out")
    assert (results["accuracy"], results["last_accuracy"]) == (70.0, 60.0)
    assert (results["chosen_on"], results["chosen_by"], results["evaluations"]) == ("validation", "accuracy", 3)
    assert (results["best_step"], results["steps"]) == (6, 9)
    assert results["scored_on"] == {"validation": {"rows": 11, "from": "validation.jsonl"}}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Chosen by `accuracy` on validation (11 rows of validation.jsonl): best of 3 evaluations" in card
    assert "the last one gave 60.00." in card
    assert "last_accuracy" not in card


def test_weights_that_were_not_saved_are_not_among_those_to_choose_from(
    made: Path, tmp_path: Path, scripted: list[float]
) -> None:
    """Evaluated after 3, 6 and 9 steps and saved after 6 and 9: the 50 of step 3 is no candidate."""
    scripted[:] = [90.0, 70.0, 60.0]
    steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 6}
    results = finetune(made / "model", task(made), arguments(tmp_path / "out", **steps))
    assert (results["accuracy"], results["best_step"], results["evaluations"]) == (70.0, 6, 2)


def test_the_chosen_weights_are_scored_on_test_rows_once_and_that_score_leads(made: Path, tmp_path: Path) -> None:
    results = finetune(made / "model", task(made, test_file="test.jsonl"), arguments(tmp_path / "out"))
    scored = evaluate(tmp_path / "out", task(made, validation_file=None, test_file="test.jsonl"), mixed_precision="no")
    assert list(results)[:2] == ["test_accuracy", "test_f1_macro"]
    assert {name: results[name] for name in scored} == scored
    assert scored.keys() == {"parameters", "test_accuracy", "test_f1_macro"}
    assert results["scored_on"]["test"].items() >= {"rows": 7, "from": "test.jsonl"}.items()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Tested once, on test (7 rows of test.jsonl). Chosen by `accuracy` on validation" in card
    assert card.index("| test_accuracy |") < card.index("| accuracy |")


def test_the_card_of_a_finished_stage_has_the_scores_on_the_test_rows_of_now(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = finetune(made / "model", task(made, test_file="test.jsonl"), arguments(out))
    written = (out / "README.md").read_text()
    (out / "README.md").write_text(written + "\nMine.\n")
    finetune(made / "model", task(made, test_file="other.jsonl"), arguments(out))
    assert (out / "README.md").read_text() == written + "\nMine.\n", "an edited card is not touched"
    (out / "README.md").write_text(written)
    other = finetune(made / "model", task(made, test_file="other.jsonl"), arguments(out))
    card = (out / "README.md").read_text()
    assert "Tested once, on test (9 rows of other.jsonl)." in card
    assert f"| test_accuracy | {other['test_accuracy']:.2f} |" in card
    assert "test.jsonl" not in card
    scores = {(one.dataset_name, one.metric_type): one.metric_value for one in ModelCard(card).data.eval_results}
    assert scores["other.jsonl", "accuracy"] == round(other["test_accuracy"], 4)
    back = finetune(made / "model", task(made, test_file="test.jsonl"), arguments(out))
    assert back["test_accuracy"] == first["test_accuracy"]
    assert (out / "README.md").read_text() == written
    finetune(made / "model", task(made, test_file="other.jsonl"), arguments(out))
    again = finetune(made / "model", task(made), arguments(out))
    assert "test_accuracy" not in again
    assert "Tested once" not in (out / "README.md").read_text()
    assert published_damage(out, read_manifest(out)) is None


@pytest.mark.parametrize("card", [b"---\ntags: [a\n---\nMine.\n", b"---\nmodel-index: 3\n---\n", b"caf\xe9"])
def test_an_edited_card_is_not_even_read(made: Path, tmp_path: Path, card: bytes) -> None:
    out = tmp_path / "out"
    finetune(made / "model", task(made, test_file="test.jsonl"), arguments(out))
    (out / "README.md").write_bytes(card)
    assert finetune(made / "model", task(made, test_file="other.jsonl"), arguments(out))["steps"] == 9
    assert (out / "README.md").read_bytes() == card


def test_a_card_with_the_scores_that_it_has_stays_as_it_was(made: Path, tmp_path: Path) -> None:
    tested = task(made, test_file="test.jsonl")
    results = finetune(made / "model", tested, arguments(tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert with_scores(card, tested, results) == card


def test_without_an_evaluation_the_last_weights_are_scored_once_and_the_results_say_so(
    made: Path, tmp_path: Path
) -> None:
    results = finetune(
        made / "model", task(made, test_file="test.jsonl"), arguments(tmp_path / "out", eval_strategy="no")
    )
    assert (results["chosen_on"], results["evaluations"], results["best_step"]) == (None, 0, None)
    assert {"accuracy", "test_accuracy"} <= results.keys()
    assert "last_accuracy" not in results
    card = (tmp_path / "out" / "README.md").read_text()
    assert "The last weights, not chosen by a score; scored on validation (11 rows of validation.jsonl)." in card


def test_scores_of_another_model_leave_nothing_of_the_first_ones(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    evaluate(made / "model", task(made, test_file="test.jsonl"), output_dir=out)
    assert (out / "test" / "predictions.json").is_file()
    evaluate(made / "model", task(made), output_dir=out)
    assert not (out / "test" / "predictions.json").exists()
    assert (out / "predictions.json").is_file()
    evaluate(made / "model", task(made, test_file="test.jsonl"), output_dir=out)
    assert (out / "test" / "predictions.json").is_file()


def test_predictions_are_scored_on_the_rows_they_are_of(made: Path, tmp_path: Path) -> None:
    both = task(made, test_file="test.jsonl")
    scores = evaluate(made / "model", both, output_dir=tmp_path / "scores")
    file = tmp_path / "scores" / "test" / "predictions.json"
    with pytest.raises(InputError, match=r"split: expected one of validation, test, .*got nothing"):
        score_predictions(file, both)
    found = score_predictions(file, both, "test")
    assert found
    assert found == {name: scores[name] for name in found}
    assert all(name.startswith("test_") for name in found)
    only = score_predictions(file, task(made, validation_file=None, test_file="test.jsonl"))
    assert only == found


PREDICTED: dict[str, tuple[str, list[Any], list[Any], str, float]] = {
    "classes": ("sequence_classification", ["a", "b", "a"], ["a", "c", "a"], "accuracy", 200 / 3),
    "one class": ("sequence_classification", ["a", "a"], ["a", "c"], "accuracy", 50.0),
    "labels": ("multi_label_classification", [["a"], ["b"]], [["a", "c"], ["b"]], "exact_match", 50.0),
    "tags": ("token_classification", [["O", "B-x"], ["O", "O"]], [["O", "B-x"], ["O", "B-y"]], "f1", 200 / 3),
}


def of_labels(name: str, labels: list[Any], declared: list[str] | None = None) -> Task:
    """A task whose validation rows have these labels, or tags."""
    texts = {"tokens": [["w"] * len(row) for row in labels]} if name == "token_classification" else {
        "text": [f"text {number}" for number in range(len(labels))]
    }  # fmt: skip
    rows = Dataset.from_dict({**texts, "tags" if "tokens" in texts else "label": labels})
    if declared:
        rows = rows.cast_column("label", ClassLabel(names=declared))
    return load_task(name, validation=rows)


@pytest.mark.parametrize("case", PREDICTED)
def test_a_predicted_label_that_no_row_has_is_wrong(
    case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, labels, predicted, score, value = PREDICTED[case]
    (tmp_path / "p.json").write_text(json.dumps(predicted))
    assert score_predictions(tmp_path / "p.json", of_labels(name, labels))[score] == pytest.approx(value)
    assert "labels of the predictions file in the data, got" in caplog.text


def test_predicted_labels_are_refused_where_the_data_declare_theirs_or_have_none_of_them(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('["a", "c"]')
    with pytest.raises(InputError, match="expected the label names a, b, got 'c'; fix the file"):
        score_predictions(tmp_path / "p.json", of_labels("sequence_classification", ["a", "b"], ["a", "b"]))
    with pytest.raises(InputError, match="expected the label names x, y, got 'a'; fix the file"):
        score_predictions(tmp_path / "p.json", of_labels("sequence_classification", ["x", "y"]))


@pytest.mark.parametrize("name", ["model_name_or_path", "teacher_name_or_path", "output_dir"])
def test_predictions_have_no_use_for_models_and_folders(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: expected none with predictions_file, got one"):
        EvaluateArguments(predictions_file="p.json", **{name: "x"})
    with pytest.raises(InputError, match="split: expected predictions_file with it"):
        EvaluateArguments(split="test")


def test_test_rows_alone_are_enough_to_score_the_last_weights(made: Path, tmp_path: Path) -> None:
    only_test = task(made, validation_file=None, test_file="test.jsonl")
    results = finetune(made / "model", only_test, arguments(tmp_path / "out", eval_strategy="no"))
    assert "test_accuracy" in results
    assert "accuracy" not in results


def test_a_finished_stage_is_scored_on_other_test_rows_and_not_trained_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(tmp_path / "out", num_train_epochs=1)
    first = finetune(made / "model", task(made, test_file="test.jsonl"), args)
    written = (tmp_path / "out" / "all_results.json").read_text()
    monkeypatch.setattr(FinetuneTrainer, "fit", lambda self: pytest.fail("trained again"))

    again = open_finetune(made / "model", task(made, test_file="test.jsonl"), args)
    again.test = lambda results: pytest.fail("nothing has changed") if results != first else results
    assert again.result() == first
    other = finetune(made / "model", task(made, test_file="other.jsonl"), args)
    expected = evaluate(tmp_path / "out", task(made, validation_file="other.jsonl"), mixed_precision="no")
    assert other["test_accuracy"] == expected["accuracy"]
    assert other["accuracy"] == first["accuracy"]
    assert other["scored_on"]["test"]["rows"] == 9
    none = finetune(made / "model", task(made), args)
    assert not [name for name in none if name.startswith("test_")]
    assert (tmp_path / "out" / "all_results.json").read_text() == written


def test_stage_one_leaves_test_rows_alone(made: Path, tmp_path: Path) -> None:
    args = arguments(tmp_path / "filters", num_train_epochs=1)
    model = save_tiny(tmp_path / "tuned", AutoModelForSequenceClassification, **CLASSES)
    results = learn_filters(model, task(made, test_file="test.jsonl"), args, LearnFiltersArguments())
    assert list(results["scored_on"]) == ["validation"]
    assert not [name for name in results if name.startswith("test_")]
    assert learn_filters(model, task(made, test_file="other.jsonl"), args, LearnFiltersArguments()) == results


def test_a_run_leads_with_test_scores_and_shows_how_often_each_model_was_evaluated(made: Path, tmp_path: Path) -> None:
    recipe = {
        "task": "sequence_classification", "teacher": str(made / "model"), "student_num_layers": 1, "methods": ["kd"],
        **{f"{name}_file": str(made / f"{name}.jsonl") for name in ("train", "validation", "test")},
        "training": {"num_train_epochs": 1, "per_device_train_batch_size": 8, "use_cpu": True, "disable_tqdm": True},
        "kd": {"num_train_epochs": 2},
    }  # fmt: skip
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    results = run(read_recipe(file, [f"output_dir={tmp_path / 'run'}"]))
    table = (tmp_path / "run" / "results.md").read_text()
    header = [cell.strip() for cell in table.splitlines()[0].split("|")[1:-1]]
    assert header == [
        "model",
        "test_accuracy",
        "test_f1_macro",
        "accuracy",
        "f1_macro",
        "parameters",
        "seconds",
        "folder",
    ]
    last = results["kd"]["last_accuracy"]
    assert (
        "- KD: Tested once, on test (7 rows of test.jsonl). Chosen by `accuracy` on validation (11 rows of "
        f"validation.jsonl): best of 2 evaluations; the last one gave {last:.2f}."
    ) in table
    assert "not evaluated equally often: 1, 2 times" in table

    again = run(read_recipe(file, [f"output_dir={tmp_path / 'run'}", f"test_file={made / 'other.jsonl'}"]))
    assert again["kd"]["scored_on"]["test"]["rows"] == 9
    assert again["kd"]["accuracy"] == results["kd"]["accuracy"]
    assert "9 rows of other.jsonl" in (tmp_path / "run" / "results.md").read_text()


def test_test_rows_that_are_the_validation_rows_are_taken_with_a_warning(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    same, args = "test rows: expected other ones than the validation rows", arguments(tmp_path / "out")
    open_finetune(made / "model", task(made, test_file="test.jsonl"), args)
    assert same not in caplog.text
    open_finetune(made / "model", task(made, test_file="validation.jsonl"), args)
    assert same in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_split": "test"}, "test_split: expected a data set of the Hub, got files; name a file with --test_file"),
        ({"test_file": "none.jsonl"}, "test_file"),
        ({"test_file": "hidden.jsonl"}, "test: expected public labels, got -1, which marks hidden labels"),
    ],
)
def test_test_rows_that_cannot_be_scored_are_refused(made: Path, changes: dict[str, Any], message: str) -> None:
    lines = [json.dumps({"text": "the film was good.", "label": label}) for label in (-1, -1)]
    (made / "hidden.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError) as error:
        _ = task(made, **changes).rows
    assert message in str(error.value)
    assert "\n" not in str(error.value)
