"""Rows and models that are in memory, in place of files and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from quick_stages import quick_arguments
from ted_distill import InputError, StageArguments, evaluate, finetune, load_task, run
from ted_distill.cli.main import main
from ted_distill.models.given import as_name
from tiny import save_tiny, tiny_config

ROWS = [{"text": f"the film was {word}", "label": label} for word, label in (("good", "yes"), ("bad", "no"))] * 8


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models")
    return str(save_tiny(folder / "big", load_task("sequence_classification").auto_model, "bert", blocks=2))


def loaded(folder: str) -> tuple[Any, Any]:
    return AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", [lambda rows: rows, pd.DataFrame, Dataset.from_list])
def test_rows_of_every_kind_are_the_same_task(kind: Any) -> None:
    task = load_task("sequence_classification", train=kind(ROWS), validation=kind(ROWS[:4]))
    assert task.label_names == ["no", "yes"]
    assert task.rows["train"]["text"][1] == "the film was bad"
    assert task.sources == {"train": "rows given in Python", "validation": "rows given in Python"}
    same = load_task("sequence_classification", train=ROWS, validation=ROWS[:4])
    assert task.identity == same.identity


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas", "arrow"])
def test_rows_with_a_format_are_the_same_rows(kind: str) -> None:
    rows = Dataset.from_dict({"text": ["a film", "a book"], "label": [["x"], ["x", "y"]]}).with_format(kind)
    task = load_task("multi_label_classification", train=rows)
    assert task.rows["train"][:] == {"text": ["a film", "a book"], "label": [[1, 0], [1, 1]]}


@pytest.mark.parametrize("kind", [lambda rows: rows, pd.DataFrame])
def test_lists_may_be_arrays_also_where_they_are_empty(kind: Any) -> None:
    rows = [{"text": "a", "label": np.array([])}, {"text": "b", "label": np.array(["x", "y"])}]
    task = load_task("multi_label_classification", train=kind(rows))
    assert task.rows["train"]["label"][:] == [[0, 0], [1, 1]]


def test_a_column_that_the_first_row_lacks_is_read_too() -> None:
    rows = [{"text": "a", "label": "x"}, {"text": "b", "text_pair": "c", "label": "y"}]
    with pytest.raises(InputError, match="expected text_pair in every row, got none in 1 row"):
        _ = load_task("sequence_classification", train=rows, validation=rows).rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "train: expected at least one row, got none"),
        ("rows.csv", "train: expected a datasets.Dataset, a pandas.DataFrame or a list of dicts, got 'str'"),
        ([1, 2], "got 'list'"),
        ([{"text": 1}, {"text": "b"}], "train, column text: expected values of one type"),
        (
            [{"text": "a", "label": 10**30}, {"text": "b", "label": 1}],
            "train, column label: expected values of one type",
        ),
        (
            [{"text": "a \ud83d"}],
            "train, column text: expected text that can be .*, got half of a character .* place 2",
        ),
    ],
)
def test_rows_of_another_kind_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task("sequence_classification", train=rows)


@pytest.mark.parametrize("kind", [list, pd.DataFrame])
def test_a_column_that_nothing_reads_and_no_table_holds_is_left_out_with_a_line(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "note": note} for row, note in zip(ROWS, [1, "two"] * len(ROWS), strict=False)]
    task = load_task("sequence_classification", train=kind(rows), validation=kind(rows))
    assert task.rows["train"]["text"][:] == [row["text"] for row in ROWS]
    assert "train, column note: expected values of one type" in caplog.text
    assert "the column is left out, as nothing reads it" in caplog.text


def test_rows_and_files_for_one_split_are_refused() -> None:
    from ted_distill import TaskArguments

    task = load_task(TaskArguments("sequence_classification", train_file="rows.csv"), train=ROWS)
    with pytest.raises(InputError, match="train_file: expected rows or files, got rows of train and a file"):
        _ = task.rows


def test_a_model_in_memory_is_the_same_as_its_folder(model_folder: str, tmp_path: Path) -> None:
    task = load_task("sequence_classification", train=ROWS, validation=ROWS)
    arguments = quick_arguments(tmp_path / "out", num_train_epochs=1)
    first = finetune(loaded(model_folder), task, arguments)
    again = finetune(model_folder, load_task("sequence_classification", train=ROWS, validation=ROWS), arguments)
    assert again == first, "the stage is finished: the model in memory was known by its weights"
    classify = pipeline("text-classification", str(tmp_path / "out"))
    assert evaluate(classify, task, use_cpu=True)["accuracy"] == first["accuracy"]


def test_a_model_in_memory_is_another_one_when_its_config_or_tokenizer_is(model_folder: str) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    first = as_name((model, tokenizer))
    assert as_name((model, tokenizer)) == first
    model.config.id2label = {0: "yes", 1: "no"}
    swapped = as_name((model, tokenizer))
    assert swapped != first
    assert AutoModelForSequenceClassification.from_pretrained(swapped).config.id2label == {0: "yes", 1: "no"}
    tokenizer.model_max_length = 7
    assert as_name((model, tokenizer)) != swapped


def test_a_whole_run_takes_a_dict_rows_and_a_model(
    model_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {
        "task": "sequence_classification",
        "student_layers": [2],
        "methods": ["kd"],
        "validation_size": 4,
        "output_dir": str(tmp_path / "run"),
        "training": {"num_train_epochs": 1, "use_cpu": True, "disable_tqdm": True},
    }
    results = run(recipe, train=pd.DataFrame(ROWS), teacher=loaded(model_folder))
    assert list(results) == ["teacher", "student", "alone", "kd"]
    assert (tmp_path / "run" / "best" / "model.safetensors").is_file()

    # What was in memory has to be given again.
    recorded = str(tmp_path / "run" / "recipe.yaml")
    missing = "recipe: expected teacher and train in files, got the recipe of a run that Python gave them to; give"
    for words in (["run", recorded], ["show", recorded], ["compare", recorded], ["reproduce", str(tmp_path / "run")]):
        assert main(words) == 2
        assert f"{missing} teacher=..., train_file=...," in capsys.readouterr().err
    assert main(["run", recorded, f"teacher={model_folder}"]) == 2
    assert "expected train in files" in capsys.readouterr().err
    pd.DataFrame(ROWS).to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    assert main(["show", recorded, f"teacher={model_folder}", f"train_file={tmp_path}/rows.jsonl"]) == 0


def test_what_is_no_model_is_refused(model_folder: str) -> None:
    model, _ = loaded(model_folder)
    llama = AutoModelForSequenceClassification.from_config(tiny_config("llama"))
    for alone in (model, llama):  # a Llama has a `model` of its own, as a pipeline has
        with pytest.raises(InputError, match="got a model without its tokenizer"):
            as_name(alone)
    with pytest.raises(InputError, match="expected a folder, a Hub id or"):
        as_name((model, "tokenizer"))
    with pytest.raises(InputError, match="expected a folder, a Hub id or"):
        finetune(None, load_task("sequence_classification", train=ROWS), StageArguments("x"))  # type: ignore[arg-type]
