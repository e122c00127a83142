"""Reading data: every kind of file gives the same rows, and whatever is wrong is said in one message."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path

import datasets
import pandas as pd
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from ted_distill.errors import InputError
from ted_distill.tasks import load_task
from ted_distill.tasks.reading.splits import read_splits, sample_rows
from ted_distill.tasks.task_arguments import TaskArguments

VALIDATION = {"validation": "validation"}
RECORDS = [
    {"text": "null", "label": 1, "score": 0.5},
    {"text": 'say "no", twice', "label": 0, "score": 2.0},
    {"text": "NA", "label": 1, "score": -3.25},
    {"text": "größer 大", "label": 0, "score": 1e-05},
]


@pytest.fixture(autouse=True)
def _no_network(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def write(folder: Path, kind: str, records: list[dict] = RECORDS) -> Path:
    file, frame = folder / f"rows.{kind}", pd.DataFrame(records)
    match kind.removesuffix(".gz"):
        case "csv":
            data = frame.to_csv(index=False).encode()
        case "tsv":
            lines = [frame.columns, *frame.itertuples(index=False)]
            data = "\n".join("\t".join(map(str, line)) for line in lines).encode()
        case "json":
            data = json.dumps(records, indent=1).encode()
        case "jsonl":
            data = "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()
        case "parquet":
            Dataset.from_list(records).to_parquet(folder / "plain")
            data = (folder / "plain").read_bytes()
    file.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return file


def read(**arguments: object) -> dict[str, Dataset]:
    return read_splits(TaskArguments(**arguments), None, VALIDATION)  # type: ignore[arg-type]


def problems_of(**arguments: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(**arguments)
    return caught.value.problems


# --- kinds of files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, gz: str, tmp_path: Path) -> None:
    rows = read(train_file=str(write(tmp_path, kind + gz)))["train"]
    assert rows.to_list() == RECORDS
    assert rows.features == Features(text=Value("string"), label=Value("int64"), score=Value("float64"))


def test_class_labels_of_a_parquet_file_are_kept(tmp_path: Path) -> None:
    features = Features(text=Value("string"), label=ClassLabel(names=["bad", "good"]))
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(tmp_path / "x.parquet")
    assert read(train_file=str(tmp_path / "x.parquet"))["train"].features == features


def test_a_categorical_column_of_pandas_is_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": pd.Categorical(["bad", "good"])})
    frame.to_parquet(tmp_path / "x.parquet")
    assert read(train_file=str(tmp_path / "x.parquet"))["train"]["label"][:] == ["bad", "good"]


def test_json_under_the_key_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"version": 1, "data": RECORDS}))
    assert read(train_file=str(tmp_path / "x.json"))["train"].to_list() == RECORDS


def test_a_single_json_line_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(RECORDS[0]))
    assert read(train_file=str(tmp_path / "x.jsonl"))["train"].to_list() == RECORDS[:1]


def test_json_records_may_lack_a_field_that_others_have(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n\n{"text": "b", "label": 1}\n')
    assert read(train_file=str(tmp_path / "x.jsonl"))["train"]["label"][:] == [None, 1]


def test_an_official_squad_document_becomes_one_row_a_question(tmp_path: Path) -> None:
    answer = {"text": "Ada", "answer_start": 0}
    questions = [{"id": "1", "question": "Who?", "answers": [answer]}, {"id": "2", "question": "When?", "answers": []}]
    document = {"data": [{"title": "T", "paragraphs": [{"context": "Ada came.", "qas": questions}]}]}
    (tmp_path / "x.json").write_text(json.dumps(document))
    rows = read(validation_file=str(tmp_path / "x.json"))["validation"]
    assert rows["question"][:] == ["Who?", "When?"]
    assert rows["answers"][:] == [{"text": ["Ada"], "answer_start": [0]}, {"text": [], "answer_start": []}]


def test_quotation_marks_in_a_tsv_file_are_characters_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b'text\tlabel\r\n"open\t1\r\nclosed"\t0\r\n')
    assert read(train_file=str(tmp_path / "x.tsv"))["train"]["text"][:] == ['"open', 'closed"']


def test_a_csv_field_may_hold_line_ends_and_much_text(tmp_path: Path) -> None:
    long = "word " * 40_000
    (tmp_path / "x.csv").write_text(f'text,label\n"two\nlines",1\n{long},0\n')
    assert read(train_file=str(tmp_path / "x.csv"))["train"]["text"][:] == ["two\nlines", long]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\na,1\n", encoding="utf-8-sig")
    assert read(train_file=str(tmp_path / "x.csv"))["train"].column_names == ["text", "label"]


def test_columns_are_numbers_only_if_all_their_fields_are(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b,c,d,e,f\n1,1,007,1.5,,1\n2,x,008,,y,2\n,3,009,2e3,,12345678901234567890\n")
    rows = read(train_file=str(tmp_path / "x.csv"))["train"]
    assert rows["a"][:] == [1, 2, None]
    assert rows["b"][:] == ["1", "x", "3"]
    assert rows["c"][:] == ["007", "008", "009"]
    assert rows["d"][:] == [1.5, None, 2000.0]
    assert rows["e"][:] == ["", "y", ""]
    assert rows["f"][:] == ["1", "2", "12345678901234567890"]


def test_codes_that_look_like_exponents_are_names_of_classes(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label,share\na,1E50,1e-05\nb,1E51,0.5\nc,10E49,1E+02\n")
    task = load_task(TaskArguments("sequence_classification", train_file=str(tmp_path / "x.csv")))
    assert (sorted(task.label_names or ()), task.declares_labels) == (["10E49", "1E50", "1E51"], False)
    rows = read(train_file=str(tmp_path / "x.csv"))["train"]
    assert rows["share"][:] == [1e-05, 0.5, 100.0]


def test_a_file_name_with_wildcards_is_a_file_name(tmp_path: Path) -> None:
    write(tmp_path, "csv").rename(tmp_path / "rows[1]*.csv")
    assert len(read(train_file=str(tmp_path / "rows[1]*.csv"))["train"]) == 4


# --- splits and samples ---------------------------------------------------------------------------------------


def test_a_validation_file_alone_gives_only_that_split(tmp_path: Path) -> None:
    assert list(read(validation_file=str(write(tmp_path, "csv")))) == ["validation"]


def test_train_comes_first(tmp_path: Path) -> None:
    file = str(write(tmp_path, "csv"))
    assert list(read(validation_file=file, train_file=file)) == ["train", "validation"]


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = write(tmp_path, "csv", RECORDS)
    assert len(read(train_file=str(file))["train"]) == 4
    write(tmp_path, "csv", RECORDS[:2])
    assert len(read(train_file=str(file))["train"]) == 2


def test_work_on_an_unchanged_file_is_found_in_the_cache(tmp_path: Path) -> None:
    file = str(write(tmp_path, "csv"))
    first, again = read(train_file=file)["train"], read(train_file=file)["train"]
    assert first._fingerprint == again._fingerprint
    assert first.cache_files


def test_a_sample_is_always_the_same_rows(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"number": list(range(100))})
    sample = sample_rows(rows, 10)["number"][:]
    assert sample == sample_rows(rows, 10)["number"][:] == rows.shuffle(seed=42).select(range(10))["number"][:]
    assert sample != sorted(sample)


@pytest.mark.parametrize("maximum", [None, 3, 4])
def test_a_sample_of_all_rows_keeps_them_in_order(maximum: int | None) -> None:
    assert sample_rows(Dataset.from_dict({"number": [0, 1, 2]}), maximum)["number"][:] == [0, 1, 2]


@pytest.mark.parametrize("maximum", [0, -5])
def test_a_sample_of_no_rows_is_refused(maximum: int, tmp_path: Path) -> None:
    problems = problems_of(train_file=str(write(tmp_path, "csv")), max_train_samples=maximum, max_eval_samples=maximum)
    assert problems == [
        f"max_train_samples: expected a whole number of at least 1, got {maximum}",
        f"max_eval_samples: expected a whole number of at least 1, got {maximum}",
    ]


# --- what is refused ------------------------------------------------------------------------------------------


def test_no_data_at_all_names_the_flags_to_give() -> None:
    [problem] = problems_of()
    assert all(
        word in problem
        for word in ("data: expected", "got neither", "--train_file", "--validation_file", "--dataset_name")
    )


def test_every_problem_of_every_file_is_in_one_message(tmp_path: Path) -> None:
    write(tmp_path, "csv")
    problems = problems_of(train_file=str(tmp_path / "row.csv"), validation_file=str(tmp_path / "x" / "rows.csv"))
    assert problems == [
        f"train_file {tmp_path}/row.csv: expected a file, found no such file; did you mean {tmp_path}/rows.csv?",
        f"validation_file {tmp_path}/x/rows.csv: expected a file, found no folder {tmp_path}/x; check the path",
    ]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "expected a file, got a folder; name a file in it" in problems_of(train_file=str(tmp_path))[0]


@pytest.mark.parametrize("name", ["rows.xlsx", "rows", "rows.gz", "rows.rtf.gz"])
def test_an_unknown_extension_names_the_known_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("text,label\na,1\n")
    [problem] = problems_of(train_file=str(tmp_path / name))
    assert ".csv, .tsv, .json, .jsonl, .parquet" in problem
    assert f"got {Path(name.removesuffix('.gz')).suffix or 'none'}; convert" in problem


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b""),
        ("x.csv", b"text,label\n"),
        ("x.tsv", b"\n\n"),
        ("x.json", b"[]"),
        ("x.json", b'{"data": []}'),
        ("x.jsonl", b" \n"),
        ("x.parquet", b""),
        ("x.csv.gz", gzip.compress(b"", mtime=0)),
    ],
)
def test_a_file_without_rows_is_empty(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    [problem] = problems_of(train_file=str(tmp_path / name))
    assert f"{name}: expected at least one row, got none" in problem


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "csv.gz", "jsonl.gz", "parquet.gz"])
def test_a_truncated_file_is_refused(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path, kind)
    file.write_bytes(file.read_bytes()[:-9])
    [problem] = problems_of(train_file=str(file))
    assert str(file) in problem
    assert "complete" in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b'text,label\na,1\n"b,0\nc,1\n', "unexpected end of data"),
        ("x.csv", b"text,label\na,1\na, b,1\n", "line 3: expected 2 fields, as in the first line, got 3"),
        ("x.csv", b"text,label\na,1\nb\n", "line 3: expected 2 fields, as in the first line, got 1"),
        ("x.tsv", b"text\tlabel\na\t1\nb\n", "line 3: expected 2 fields, as in the first line, got 1"),
        ("x.csv", b"text,text\na,1\n", "line 1: expected different column names, got 'text' twice"),
        ("x.csv", b"text,label\n\xff\xfe,1\n", "UTF-8"),
        ("x.json", b'["a", "b"]', "records"),
        ("x.json", b"3", "records"),
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "line 2: expected a JSON record"),
        ("x.jsonl", b'{"a": 1}\n{"a": "b"}\n', "expected values of one kind in column 'a', got several"),
        ("x.parquet", b"PAR1 and then something else", "cannot be read to its end"),
        ("x.csv.gz", b"text,label\na,1\n", "gzip"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    [problem] = problems_of(train_file=str(tmp_path / name))
    assert problem.startswith(f"train_file {tmp_path / name}: ")
    assert words in problem
    assert not list(tmp_path.glob("cache/**/*.arrow"))


def test_files_and_a_hub_data_set_together_are_refused(tmp_path: Path) -> None:
    [problem] = problems_of(train_file=str(write(tmp_path, "csv")), dataset_name="imdb")
    assert "one or the other" in problem


def test_a_mismatched_file_for_a_task_without_such_a_split_is_refused(tmp_path: Path) -> None:
    [problem] = problems_of(validation_mismatched_file=str(write(tmp_path, "csv")))
    assert problem.startswith("validation_mismatched_file: expected none")
    assert "leave it out" in problem


# --- the Hub --------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """A Hub with one data set; what it was asked for."""
    asked: list[tuple[str, str | None]] = []

    def load_dataset(name: str, config: str | None) -> DatasetDict:
        asked.append((name, config))
        splits = {"train": 3, "validation_matched": 2, "validation_mismatched": 1, "test": 9}
        return DatasetDict({split: Dataset.from_dict({"n": range(rows)}) for split, rows in splits.items()})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_splits_of_the_hub_get_our_names(hub: list) -> None:
    ours = {"validation": "validation_matched", "validation_mismatched": "validation_mismatched"}
    splits = read_splits(TaskArguments(), ("nyu-mll/glue", "mnli"), ours)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 3,
        "validation": 2,
        "validation_mismatched": 1,
    }
    assert hub == [("nyu-mll/glue", "mnli")]


def test_a_split_of_the_hub_is_tested_on_only_if_it_is_named(hub: list) -> None:
    named = TaskArguments(dataset_name="me/mine", validation_split="validation_matched", test_split="test")
    assert {name: len(rows) for name, rows in read_splits(named, None, VALIDATION).items()} == {
        "train": 3,
        "validation": 2,
        "test": 9,
    }
    with pytest.raises(InputError, match=r"expected a split 'tests', got train, .*--test_split"):
        read_splits(TaskArguments(dataset_name="me/mine", test_split="tests"), None, {"validation": "test"})


@pytest.mark.parametrize("beside", ["train_file", "validation_size"])
def test_a_split_to_validate_on_is_refused_where_it_would_not_be_read(beside: str, hub: list, tmp_path: Path) -> None:
    given = {"train_file": str(write(tmp_path, "csv"))} if beside == "train_file" else {"dataset_name": "me/mine"}
    size = {"validation_size": 1} if beside == "validation_size" else {}
    with pytest.raises(InputError, match="validation_split: expected"):
        read_splits(TaskArguments(**given, **size, validation_split="nonsense"), None, VALIDATION)


def test_rows_held_out_of_a_data_set_without_training_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = DatasetDict({"test": Dataset.from_dict({"n": range(9)})})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: found)
    with pytest.raises(InputError, match="validation_size: expected training rows to hold rows out of, got test alone"):
        read_splits(TaskArguments(dataset_name="me/mine", validation_size=2, test_split="test"), None, VALIDATION)


def test_the_folder_of_a_local_data_set_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_dict({"text": ["a film", "a book", "a play", "a song"], "label": [0, 1, 0, 1]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: DatasetDict({"train": rows}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.jsonl").touch()
    arguments = TaskArguments("sequence_classification", dataset_name=str(tmp_path / "mine"), validation_size=1)
    assert load_task(arguments).sources == {"train": "mine/train", "validation": "mine/train, held out"}


def test_csv_files_of_a_folder_are_read_like_files_that_are_named(tmp_path: Path) -> None:
    content = "text,label,note\nnull,01,\n3.50,1,2\nNone,None,1e3\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text(content)
    of_folder = read_splits(TaskArguments(dataset_name=str(tmp_path / "mine")), None, {})["train"]
    of_file = read_splits(TaskArguments(train_file=str(tmp_path / "mine" / "train.csv")), None, {})["train"]
    assert of_folder.to_dict() == of_file.to_dict()
    assert of_folder.features == of_file.features
    assert of_folder["label"][:] == ["01", "1", "None"]
    streamed = read_splits(TaskArguments(dataset_name=str(tmp_path / "mine"), streaming=True), None, {})["train"]
    assert [row["text"] for row in streamed] == ["null", "3.50", "None"]


def test_a_folder_that_declares_its_classes_keeps_them(tmp_path: Path) -> None:
    kinds = "\n".join(f"          '{number}': {name}" for number, name in enumerate(("bad", "good")))
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype:\n"
        f"      class_label:\n        names:\n{kinds}\n---\n"
    )
    (folder / "train.csv").write_text("text,label\n10,1\n20,0\n")
    rows = read_splits(TaskArguments(dataset_name=str(folder)), None, {})["train"]
    assert rows.features["label"].names == ["bad", "good"]
    assert rows.to_dict() == {"text": ["10", "20"], "label": [1, 0]}


def test_a_folder_of_csv_files_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "train.csv").write_text("good film,World\nbad film,Sports\n" * 9)
    with pytest.raises(
        InputError, match=r"mine: file .*train\.csv: line 1: expected names of columns, got 'good film'"
    ):
        read_splits(TaskArguments(dataset_name=str(tmp_path / "mine")), None, {})


def test_rows_held_out_leave_test_rows_as_they_are(tmp_path: Path) -> None:
    for name, rows in (("train", 8), ("test", 3)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"text": "{row}"}}\n' for row in range(rows)))
    files = {f"{name}_file": str(tmp_path / f"{name}.jsonl") for name in ("train", "test")}
    for streaming in (False, True):
        splits = read_splits(TaskArguments(**files, validation_size=2, streaming=streaming), None, VALIDATION)
        assert splits["test"]["text"][:] == ["0", "1", "2"]
        assert len(splits["validation"]) == 2


def test_a_data_set_that_is_named_goes_before_the_tasks_own(hub: list) -> None:
    arguments = TaskArguments(dataset_name="me/mine", dataset_config_name="small")
    read_splits(arguments, ("nyu-mll/glue", "mnli"), {"validation": "test"})
    assert hub == [("me/mine", "small")]


def test_a_split_the_hub_lacks_is_refused_with_those_it_has(hub: list) -> None:
    with pytest.raises(InputError, match=r"expected a split 'validation', got train, .*, test.*--validation_file"):
        read_splits(TaskArguments(dataset_name="me/mine"), None, VALIDATION)


@pytest.mark.parametrize("error", [ConnectionError("no way\nthrough"), ValueError("no such configuration"), OSError()])
def test_a_failed_download_is_one_clear_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, config: str | None) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError) as caught:
        read_splits(TaskArguments(), ("nyu-mll/glue", "sst2"), VALIDATION)
    [problem] = caught.value.problems
    assert "nyu-mll/glue (sst2)" in problem
    assert "--train_file" in problem
    assert "\n" not in problem


def test_without_a_network_the_hub_gives_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"data set nyu-mll/glue \(sst2\): expected it from the Hub, got an error"):
        read_splits(TaskArguments(), ("nyu-mll/glue", "sst2"), VALIDATION)
