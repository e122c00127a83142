"""A folder of data files is read as the files are that arguments name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from ted_distill import InputError, TaskArguments, load_task
from ted_distill.tasks.reading import files

VALIDATION = "text,label\nv,x\nw,y\n"


def folder(path: Path, **names: str) -> Path:
    for name, text in {"validation_csv": VALIDATION, **names}.items():
        stem, _, suffix = name.rpartition("_")
        (path / f"{stem}.{suffix}").write_text(text, encoding="utf-8")
    return path


def read(**arguments: Any) -> Dataset:
    return load_task(TaskArguments("sequence_classification", **arguments)).rows["train"]


def test_a_quotation_mark_in_a_tsv_file_is_a_character_like_any_other(tmp_path: Path) -> None:
    rows = 'text\tlabel\n"a b\tx\nc d\ty\ne f\tx\ng" h\ty\n"i" j\tx\n'
    folder(tmp_path, train_tsv=rows)
    (tmp_path / "validation.csv").rename(tmp_path / "validation.tsv")
    (tmp_path / "validation.tsv").write_text("text\tlabel\nv\tx\nw\ty\n", encoding="utf-8")
    named = read(train_file=str(tmp_path / "train.tsv"))
    assert named["text"][:] == ['"a b', "c d", "e f", 'g" h', '"i" j']
    assert read(dataset_name=str(tmp_path)).to_list() == named.to_list()


def test_what_a_column_of_several_files_holds_is_known_once_all_are_read(tmp_path: Path) -> None:
    path = folder(
        tmp_path,
        **{"train-1_csv": "text,label,note\na,1,\nb,02,\n", "train-2_csv": "text,label,note\nc,x,seen\nd,1,\n"},
        validation_csv="text,label,note\ne,x,\nf,1,\n",
    )
    task = load_task(TaskArguments("sequence_classification", dataset_name=str(path)))
    assert task.label_names == ["02", "1", "x"] or set(task.label_names or ()) == {"02", "1", "x"}
    assert task.rows["train"]["text"][:] == ["a", "b", "c", "d"]


def test_numbers_in_all_files_of_a_split_are_numbers(tmp_path: Path) -> None:
    parts = {"train-1_csv": "text,label\na,1.0\nb,\nc,2\n", "train-2_csv": "text,label\nd,3\n"}
    path = folder(tmp_path, **parts, validation_csv="text,label\na,2\n")
    with pytest.raises(InputError, match="train: expected a label in every row"):
        read(dataset_name=str(path))
    (tmp_path / "train-1.csv").write_text("text,label\na,1.0\nc,2\n", encoding="utf-8")
    scores = load_task(TaskArguments("regression", dataset_name=str(path))).rows["train"]
    assert scores["label"][:] == [1.0, 2.0, 3.0]


def test_files_of_a_split_with_other_columns_are_refused_by_name(tmp_path: Path) -> None:
    path = folder(tmp_path, **{"train-1_csv": "text,label\na,x\n", "train-2_csv": "text,kind\nb,y\n"})
    with pytest.raises(InputError) as error:
        read(dataset_name=str(path))
    assert error.value.problems == [
        f"data set {path}: file {path}/train-2.csv: expected the columns of train-1.csv (text, label), got text, kind; "
        "give all files of a split the same columns"
    ]


@pytest.mark.parametrize(("encoding", "delimiter"), [("cp1252", ";"), ("utf-8", ";"), ("cp1252", ",")])
def test_delimiter_and_encoding_hold_for_the_files_of_a_folder(tmp_path: Path, encoding: str, delimiter: str) -> None:
    for name in ("train", "validation"):
        text = f"text{delimiter}label\ncafé{delimiter}x\nthé{delimiter}y\n"
        (tmp_path / f"{name}.csv").write_text(text, encoding=encoding)
    named = {} if encoding == "utf-8" else {"encoding": encoding}
    assert read(dataset_name=str(tmp_path), **named)["text"][:] == ["café", "thé"]
    assert read(dataset_name=str(tmp_path), delimiter=delimiter, **named)["text"][:] == ["café", "thé"]


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": ["x", "y", "x"]})
    rows.save_to_disk(tmp_path / "one")
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(tmp_path / "both")
    both = load_task(TaskArguments("sequence_classification", dataset_name=str(tmp_path / "both"))).rows
    assert [both["train"]["text"][:], both["validation"]["text"][:]] == [["a", "b", "c"]] * 2
    held = load_task(
        TaskArguments("sequence_classification", dataset_name=str(tmp_path / "one"), validation_size=1)
    ).rows
    assert (len(held["train"]), len(held["validation"])) == (2, 1)


def test_what_is_wrong_with_a_folder_is_said_without_a_word_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(InputError) as error:
        read(dataset_name=str(tmp_path))
    (problem,) = error.value.problems
    assert problem.startswith(f"data set {tmp_path}: expected a folder of data files, got an error (")
    assert "Hub" not in problem
    assert "An error occurred while generating" not in problem, "its cause is said"
    with pytest.raises(InputError, match=r"expected a data set of the Hub or a folder, got file .*; use train_file"):
        read(dataset_name=str(tmp_path / "train.jsonl"))


def test_a_cached_table_without_its_end_is_read_anew(tmp_path: Path, own_cache: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"row {row},{row % 2}\n" for row in range(2500)), encoding="utf-8")
    assert len(files.read_file(file, "train_file")) == 2500
    (cached,) = (own_cache / "ted_distill").glob("*.arrow")
    whole = cached.read_bytes()
    rest = whole[: whole.rindex(b"\xff\xff\xff\xff", 0, len(whole) - 8)]  # what is before the last batch
    cached.write_bytes(rest)
    assert len(Dataset.from_file(str(cached))) == 2000, "it reads like a shorter table"
    assert len(files.read_file(file, "train_file")) == 2500
    assert cached.read_bytes() == whole


@pytest.mark.parametrize("streaming", [False, True])
def test_the_header_of_a_stream_is_split_as_its_rows_are(tmp_path: Path, streaming: bool) -> None:
    text = "id;text\n01;null\n02;3.50\n"
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
    arguments = TaskArguments("causal_lm", dataset_name=str(tmp_path), streaming=streaming, delimiter=";")
    rows = load_task(arguments).rows
    assert [row["text"] for row in rows["train"]] == ["null", "3.50"]
    assert rows["validation"]["text"][:] == ["null", "3.50"]


def test_a_delimiter_for_another_file_does_not_stop_a_data_set_without_delimiters(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": ["x", "y", "x"]})
    for name in ("train", "validation"):
        rows.to_parquet(tmp_path / f"{name}.parquet")
    assert read(dataset_name=str(tmp_path), delimiter=";", encoding="cp1252")["text"][:] == ["a", "b", "c"]
