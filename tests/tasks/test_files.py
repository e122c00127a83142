"""Kinds of files: delimiters, encodings, layouts of Arrow and CoNLL, and what is said of files that are damaged."""

from __future__ import annotations

import gzip
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, IterableDataset

from ted_distill.errors import InputError, shown
from ted_distill.tasks import TaskArguments, load_task
from ted_distill.tasks.reading import files as files_module
from ted_distill.tasks.reading.arrow_types import plain_table
from ted_distill.tasks.reading.file_options import FileOptions
from ted_distill.tasks.reading.splits import read_splits
from tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("own_cache")
VALIDATION = {"validation": "validation"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Dataset]:
    """Name and bytes of a file -> its rows."""

    def read(name: str, content: bytes | str, **arguments: Any) -> Dataset:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_splits(TaskArguments(train_file=str(file), **arguments), None, VALIDATION)["train"]

    return read


@pytest.fixture
def problem(read: Callable[..., Dataset]) -> Callable[..., str]:
    """What is said of a file, in one line."""

    def problem(*args: Any, **arguments: Any) -> str:
        with pytest.raises(InputError) as caught:
            read(*args, **arguments)
        [found] = caught.value.problems
        assert found.isprintable()
        assert len(found) < 700
        return found

    return problem


@pytest.fixture
def tagged(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Name and text of a file -> words and tag names of the task of tagged words."""

    def tagged(name: str, text: str, **arguments: Any) -> dict[str, Any]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        task = load_task(TaskArguments("token_classification", train_file=str(tmp_path / name), **arguments))
        rows = task.rows["train"]
        names = task.label_names or []
        return {"words": rows["tokens"][:], "tags": [[names[tag] for tag in row] for row in rows["tags"]]}

    return tagged


# --- delimiters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["x.csv", "x.tsv"])
def test_the_delimiter_is_found_in_the_first_line(read: Callable, name: str, delimiter: str) -> None:
    lines = [["text", "label"], ["one", "1"], ["two", "2"]]
    rows = read(name, "\n".join(delimiter.join(line) for line in lines))
    assert rows.to_dict() == {"text": ["one", "two"], "label": [1, 2]}


def test_other_delimiters_may_be_in_the_fields(read: Callable) -> None:
    rows = read("x.csv", 'text;label\n"a, b";1\nc, d;2\n"e;f|g, h";3\n')
    assert rows["text"][:] == ["a, b", "c, d", "e;f|g, h"]


def test_of_two_delimiters_in_the_first_line_the_one_counts_that_fits_every_line(read: Callable) -> None:
    assert read("x.csv", "id;text, in English;label\n1;a;2\n2;b, c;3\n").column_names == [
        "id",
        "text, in English",
        "label",
    ]
    assert read("x.csv", "text,label;kind\na;b;c,1\n").column_names == ["text", "label;kind"]


def test_one_column_has_no_delimiter(read: Callable) -> None:
    assert read("x.csv", "text\nwords; more words\n")["text"][:] == ["words; more words"]


@pytest.mark.parametrize("named", [";", "semicolon"])
def test_a_delimiter_may_be_named(read: Callable, named: str) -> None:
    assert read("x.csv", "text;a,label;b\n1;2,3;4\n", delimiter=named).column_names == ["text", "a,label", "b"]


def test_a_tab_may_be_named(read: Callable) -> None:
    assert read("x.csv", "text,a\tlabel\n1,2\t3\n", delimiter="tab").column_names == ["text,a", "label"]


def test_what_excel_says_of_its_delimiter_is_believed(read: Callable) -> None:
    assert read("x.csv", "sep=;\r\ntext;label\r\na,b;1\r\n").to_dict() == {"text": ["a,b"], "label": [1]}


def test_lines_of_an_old_macintosh_are_lines(read: Callable) -> None:
    assert read("x.tsv", "text\tlabel\ra\t1\rb\t2\r")["label"][:] == [1, 2]
    assert read("x.csv", "text,label\ra,1\rb,2\r")["label"][:] == [1, 2]


def test_empty_columns_without_a_name_are_left_out(read: Callable) -> None:
    assert read("x.csv", "text;label;;\na;1;;\n").column_names == ["text", "label"]


LONG = [f"the film number {row} was good, and long" for row in range(30)]
HEADERLESS = {
    "short texts again": "good film,World\nbad film,Sports\n" * 9,
    "a class again": "".join(f'"{text}",{"ab"[row % 2]}\n' for row, text in enumerate(LONG)),
    "numbers": "".join(f'{row % 4 + 1},"{text}","{text} {text}"\n' for row, text in enumerate(LONG)),
    "raw CoLA": "".join(f"gj04\t{row % 2}\t\t{text}\n" for row, text in enumerate(LONG)),
    "identifiers": "".join(f'train-{row},"{text}",{row / 7:.2f}\n' for row, text in enumerate(LONG)),
}


@pytest.mark.parametrize("kind", HEADERLESS)
def test_a_file_without_names_of_columns_is_refused(problem: Callable, kind: str) -> None:
    name = "x.tsv" if "CoLA" in kind else "x.csv"
    for _ in range(2):  # also where the rows are in the cache
        assert "line 1: expected names of columns, got" in problem(name, HEADERLESS[kind])


def test_a_stream_without_names_of_columns_is_refused(read: Callable) -> None:
    rows = read("x.csv", HEADERLESS["a class again"], streaming=True)
    with pytest.raises(InputError, match="line 1: expected names of columns, got"):
        list(rows)


@pytest.mark.parametrize(
    "content",
    [
        "text,spam\n" + "".join(f'"{text}",{["spam", "ham"][row % 2]}\n' for row, text in enumerate(LONG)),
        "comment,0,1\n" + "".join(f'"{text}",{row % 2},{row % 3 % 2}\n' for row, text in enumerate(LONG)),
        "Text of the film,Year 2020\n" + "".join(f'"{text}",{row}\n' for row, text in enumerate(LONG)),
    ],
)
def test_names_of_columns_may_look_like_their_values(
    read: Callable, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    assert read("x.csv", content).column_names == content.split("\n")[0].split(",")
    assert "expected names" not in caplog.text


def test_names_that_are_given_are_names_whatever_is_in_the_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("word,class\nthe,class\nword,other\n")
    given = {"text_column": "word", "label_column": "class"}
    task = load_task(TaskArguments("sequence_classification", train_file=str(tmp_path / "x.csv"), **given))
    assert task.rows["train"]["text"][:] == ["the", "word"]


def test_a_column_with_the_name_of_one_of_its_classes_is_said(read: Callable, caplog: pytest.LogCaptureFixture) -> None:
    classes = ["sarcastic", "no"]
    content = "tweet,sarcastic\n" + "".join(f'"{text}",{classes[row % 2]}\n' for row, text in enumerate(LONG))
    assert read("x.csv", content).column_names == ["tweet", "sarcastic"]
    assert "line 1: expected names of columns, got 'sarcastic', also among the values below" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "text, label\na film, good\na book, bad\n",
        'text,label\n"a film", "good"\n"a book", "bad"\n',
        '"text", "label"\n"a film", "good"\n"a book", "bad"\n',
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_blanks_after_commas_are_no_part_of_the_fields(read: Callable, content: str, streaming: bool) -> None:
    rows = read("x.csv", content, streaming=streaming)
    assert [*rows] == [{"text": "a film", "label": "good"}, {"text": "a book", "label": "bad"}]


def test_commas_in_quotes_after_a_blank_are_in_the_field(read: Callable) -> None:
    assert read("x.csv", 'label,text\n1, "a film, good"\n0, "a book"\n')["text"][:] == ["a film, good", "a book"]


def test_blanks_at_the_beginning_of_some_fields_are_characters_of_them(read: Callable) -> None:
    rows = read("x.csv", 'text,pair\na, b\nc,"d"\ne, "f" g\n')
    assert rows["pair"][:] == [" b", "d", ' "f" g']


def test_a_line_that_does_not_fit_names_the_delimiter_that_was_found(problem: Callable) -> None:
    said = problem("x.csv", "text;label\na;1\nb;c;2\n")
    assert "line 3: expected 2 fields, as in the first line, got 3, separated by ';'; fix the line" in said
    assert "--delimiter" in said


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_delimiter_that_is_none_is_refused(problem: Callable, delimiter: str) -> None:
    said = problem("x.csv", "text,label\na,1\n", delimiter=delimiter)
    assert said.startswith("delimiter: expected one character such as ; or |, or tab, got ")


def test_a_number_too_large_for_numbers_stays_text(read: Callable) -> None:
    assert read("x.csv", "text,label\na,1e999\nb,2\n")["label"][:] == ["1e999", "2"]


# --- encodings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_another_encoding_is_refused_with_the_one_that_reads_it(
    read: Callable, problem: Callable, encoding: str
) -> None:
    content = "text,label\ncafé au lait,1\nnaïve,2\n".encode(encoding)
    said = problem("x.csv", content)
    assert f"set --encoding {encoding}" in said
    assert read("x.csv", content, encoding=encoding)["text"][:] == ["café au lait", "naïve"]


def test_the_line_and_how_it_would_read_are_named(problem: Callable) -> None:
    said = problem("x.csv", "text,label\na,1\ncafé,2\n".encode("latin-1"))
    assert (
        "line 3: expected text in UTF-8, got byte 0xe9; if the line should read 'café,2', set --encoding cp1252" in said
    )


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.txt", "x.conll"])
def test_every_kind_of_text_file_is_read_in_the_given_encoding(read: Callable, name: str) -> None:
    lines = {"x.csv": "text,b\né,1", "x.jsonl": '{"text": "é"}', "x.txt": "é", "x.conll": "é O"}
    row = read(name, lines[name].encode("utf-16"), encoding="utf-16")[0]
    assert "é" in str(row)


@pytest.mark.parametrize("encoding", ["klingon", "rot13", "base64", ""])
def test_an_encoding_that_is_none_is_refused(problem: Callable, encoding: str) -> None:
    assert "encoding: expected the name of an encoding of text" in problem("x.csv", "text\na\n", encoding=encoding)


def test_text_that_is_utf_8_is_said_to_be(problem: Callable) -> None:
    assert "expected text in ASCII, got byte 0xc3; set --encoding utf-8" in problem(
        "x.csv", "text\né\n", encoding="ascii"
    )


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.txt", "x.conll"])
def test_a_nul_character_is_no_text(problem: Callable, name: str) -> None:
    assert "line 2: expected text in UTF-8, got a NUL character" in problem(name, "text\tb\na\0b\tc\n")


# --- layouts of Arrow -----------------------------------------------------------------------------------------

LISTS = [["joy", "calm"], None, ["anger"]]
LAYOUTS = {
    "large lists": pa.large_list(pa.large_string()),
    "views": pa.list_(pa.string_view()),
    "lists of categories": pa.list_(pa.dictionary(pa.int32(), pa.string())),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lists_in_every_layout_are_the_same_rows(read: Callable, tmp_path: Path, layout: str) -> None:
    pq.write_table(pa.table({"text": ["a", "b", "c"], "labels": pa.array(LISTS, LAYOUTS[layout])}), tmp_path / "a")
    rows = read("x.parquet", (tmp_path / "a").read_bytes())
    plain = read(
        "y.jsonl", "\n".join(json.dumps({"text": text, "labels": row}) for text, row in zip("abc", LISTS, strict=True))
    )
    assert rows.features == plain.features
    assert rows.to_dict() == plain.to_dict()


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string()), pa.string()], ids=str
)
def test_text_in_every_layout_is_text(read: Callable, tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(["a", None, "c"], kind)}), tmp_path / "a")
    rows = read("x.parquet", (tmp_path / "a").read_bytes())
    assert rows.features["text"] == datasets.Value("string")
    assert rows["text"][:] == ["a", None, "c"]


def test_arrays_of_one_length_are_lists(read: Callable, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([[1, 2], [3, 4]], pa.list_(pa.int64(), 2))}), tmp_path / "a")
    assert read("x.parquet", (tmp_path / "a").read_bytes()).features["x"] == datasets.List(datasets.Value("int64"))


def test_a_note_of_features_that_does_not_fit_is_passed_over(read: Callable, tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]}).replace_schema_metadata({"huggingface": '{"info": {"features": {"y": 3}}}'})
    pq.write_table(table, tmp_path / "a")
    assert read("x.parquet", (tmp_path / "a").read_bytes()).to_dict() == {"text": ["a"]}


def test_two_columns_of_one_name_are_refused(problem: Callable, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "a")
    assert "expected different column names, got 'text' twice" in problem("x.parquet", (tmp_path / "a").read_bytes())
    assert "expected different names in a record, got 'a' twice" in problem("x.jsonl", '{"a": 1, "a": 2}')


# --- json -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1}\n{"a": "' + "x" * 200_000 + '"}', "row 2: expected values of one kind in column 'a', got"),
        ('{"a": 1' + "0" * 30 + "}", "row 1: expected text, numbers of up to 64 bits or lists of one kind"),
        ('{"a": 1' + "0" * 5000 + "}", "expected numbers of up to 64 bits"),
        ('{"a": 0.5}\n{"a": 2}\n{"a": true}', "row 3: expected values of one kind in column 'a', got several"),
        ('{"a": {"b": [0.5]}}\n{"a": {"b": [true]}}', "row 2: expected values of one kind in column 'a', got several"),
        ('{"a": "\\ud800"}', "row 1: expected text"),
        ('{"a": ' + "[" * 100_000, "expected lists up to 32 deep"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "row 1: expected lists up to 32 deep in column 'a'"),
        ('[{"a": 1}, 7]', 'row 2: expected records {"column": value, ...}'),
        ('[{"a": 1}, {"a"', "line 1: expected complete JSON"),
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_json_that_makes_no_table_is_refused_with_the_place(problem: Callable, content: str, said: str) -> None:
    assert said in problem("x.json", content)


MIXED = '{"text": "a", "label": "x", "meta": 1}\n{"text": "b", "label": "y", "meta": "none"}\n'


def test_a_column_of_mixed_values_that_nothing_reads_is_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.jsonl").write_text(MIXED)
    arguments = {"train_file": str(tmp_path / "x.jsonl")}
    task = load_task(TaskArguments("sequence_classification", **arguments))
    assert task.rows["train"]["text"][:] == ["a", "b"]
    said = "row 2: expected values of one kind in column 'meta', got several, such as 1 and 'none'"
    assert any(said in line and "left out, as nothing reads it" in line for line in caplog.messages)
    for named in ({"label_column": "meta"}, {"text_column": "meta"}, {"label_column": "me*"}):
        with pytest.raises(InputError, match=said):
            _ = load_task(TaskArguments("sequence_classification", **arguments, **named)).rows
    (tmp_path / "x.jsonl").write_text(MIXED.replace("meta", "score").replace("label", "labels"))
    with pytest.raises(InputError, match="in column 'score', got several"):
        _ = load_task(TaskArguments("sequence_classification", **arguments)).rows
    assert load_task(TaskArguments("causal_lm", **arguments)).rows["train"]["text"][:] == ["a", "b"]


def test_a_column_of_a_type_that_no_table_holds_is_left_out_too(caplog: pytest.LogCaptureFixture) -> None:
    spans = pa.array([(1, 2, 3), None], pa.month_day_nano_interval())
    table = pa.table({"text": ["a", "b"], "age": spans})
    read = FileOptions(read=("text",))
    assert plain_table(table, read).column_names == ["text"]
    assert any("column 'age': expected text, numbers or lists" in line for line in caplog.messages)
    with pytest.raises(InputError, match="column 'age': expected text"):
        plain_table(table, FileOptions())


SQUAD = {
    "context": "Ada wrote",
    "qas": [{"id": "1", "question": "who", "answers": [{"text": "Ada", "answer_start": 0}]}],
}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([{"paragraphs": None}], "article 1: expected a list as 'paragraphs', got nothing; fix it"),
        ([{"title": "T", "paragraphs": ["x"]}], "article 1 ('T'), paragraph 1: expected a record with 'context', got"),
        ([{"paragraphs": [SQUAD | {"qas": ["x"]}]}], "paragraph 1, question 1: expected a record with 'id', got 'x'"),
        ([{"paragraphs": [SQUAD | {"context": None}]}], "paragraph 1: expected text as 'context', got nothing"),
        ([{"paragraphs": [{"qas": []}]}], "paragraph 1: expected 'context', got only 'qas'; add it"),
        ([{"paragraphs": [SQUAD]}, 3], "article 2: expected a record with 'paragraphs', got 3"),
        ([{"paragraphs": [SQUAD]}, {}], "article 2: expected 'paragraphs', got only ''; add it"),
    ],
)  # fmt: skip
def test_a_part_of_a_squad_document_that_is_wrong_is_named(problem: Callable, document: list, said: str) -> None:
    assert said in problem("x.json", json.dumps({"data": document}))


@pytest.mark.parametrize("start", [3_000_000_000, -7, "0", None, 0.5, True, 10**30])
def test_an_answer_that_starts_nowhere_is_refused(problem: Callable, start: Any) -> None:
    answers = [{"text": "Ada", "answer_start": start}]
    document = [{"paragraphs": [SQUAD | {"qas": [{"id": "1", "question": "who", "answers": answers}]}]}]
    said = problem("x.json", json.dumps({"data": document}))
    assert "article 1, paragraph 1, question 1, answer 1: expected" in said
    assert shown(start)[:20] in said


# --- CoNLL ----------------------------------------------------------------------------------------------------

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

-DOCSTART- -X- -X- O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER
"""
WORDS = [["EU", "rejects"], ["Peter", "Blackburn"]]
TAGS = [["B-ORG", "O"], ["B-PER", "I-PER"]]


@pytest.mark.parametrize("name", ["x.conll", "x.txt", "x.tsv"])
@pytest.mark.parametrize("between", [" ", "\t", "  \t "])
def test_words_and_tags_of_a_conll_file(tagged: Callable, name: str, between: str) -> None:
    assert tagged(name, CONLL_2003.replace(" ", between)) == {"words": WORDS, "tags": TAGS}


def test_windows_lines_and_lines_of_blanks_are_lines(tagged: Callable) -> None:
    text = CONLL_2003.replace("\n\n", "\n \t\n").replace("\n", "\r\n")
    assert tagged("x.conll", text) == {"words": WORDS, "tags": TAGS}


@pytest.mark.parametrize("column", ["2", "-3"])
def test_columns_are_numbered_from_1_or_from_the_end(tagged: Callable, column: str) -> None:
    assert tagged("x.conll", CONLL_2003, label_column=column)["tags"] == [["NNP", "VBZ"], ["NNP", "NNP"]]


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tagged: Callable) -> None:
    with pytest.raises(InputError, match="expected a column '0', got columns 1, 2, 3, 4; name it with --label_column"):
        tagged("x.conll", CONLL_2003, label_column="0")


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_numbers_the_words_is_not_that_of_the_words(tagged: Callable, first: int) -> None:
    sentences = [["Aufgrund", "Peters", "Rat"], ["EU"], ["Peter", "Blackburn"]]
    text = "\n".join(
        f"{number}\t{word}\tO\t{'B-x' if word[0] == 'P' else 'O'}" + "\n" * (word == words[-1])
        for words in sentences
        for number, word in enumerate(words, first)
    )
    assert tagged("x.tsv", text)["words"] == sentences
    assert tagged("x.conll", text, text_column="1")["words"][1] == [str(first)]


def test_a_number_as_first_word_is_a_word(tagged: Callable) -> None:
    assert tagged("x.conll", "1 O O\n2 O O\n\n7 O O\nEU O B-x\n")["words"] == [["1", "2"], ["7", "EU"]]
    assert tagged("x.conll", "1 O O\n\nEU O B-x\n")["words"] == [["1"], ["EU"]]


def test_a_first_column_that_names_the_document_is_refused(tagged: Callable) -> None:
    text = "bc/cctv 0 EU B-x\nbc/cctv 1 is O\n\nbc/cctv 0 no O\n\nbc/a 0 Go O\nbc/a 1 on O\n"
    said = "train: expected words in the first column, got 'bc/cctv', 'bc/cctv'; name them with --text_column"
    with pytest.raises(InputError, match=said):
        tagged("x.conll", text)
    assert tagged("x.conll", text, text_column="3")["words"] == [["EU", "is"], ["no"], ["Go", "on"]]


@pytest.mark.parametrize("text", ["ha O B-x\nha O O\n", "1 B-x\n2 O\n\n1 O\n2 O\n", "ha B-x\nha O\n\nso O\nso O\n"])
def test_words_that_are_repeated_and_numbers_beside_tags_are_words(tagged: Callable, text: str) -> None:
    assert tagged("x.conll", text)["words"][0] == [line.split()[0] for line in text.split("\n")[:2]]


def test_words_of_a_tab_separated_file_may_have_blanks(tagged: Callable) -> None:
    assert tagged("x.tsv", "New York\tB-x\nis\tO\n")["words"] == [["New York", "is"]]


def test_a_hash_is_a_comment_only_where_it_is_no_word(tagged: Callable) -> None:
    text = "# id 7\n# text = who\nwho O\n# O\n\n#film B-x\n# O\n\n# O\nyes O\n\n# B-x y\nno O\n"
    assert tagged("x.conll", text)["words"] == [["who", "#"], ["#film", "#"], ["#", "yes"], ["no"]]


def test_columns_may_be_named_by_a_header(tagged: Callable) -> None:
    text = "# global.columns = FORM POS NER\nEU NNP B-x\nis VB O\n"
    assert tagged("x.conll", text)["tags"] == [["B-x", "O"]]
    assert tagged("x.conll", text, label_column="POS")["tags"] == [["NNP", "VB"]]
    assert tagged("y.tsv", "word\ttag\nEU\tB-x\nis\tO\n") == {"words": [["EU", "is"]], "tags": [["B-x", "O"]]}


def test_universal_dependencies_are_words_and_their_parts_of_speech(tagged: Callable) -> None:
    rest = "\t_" * 6
    lines = ["# sent_id = 1", "1-2\tvámonos\t_\t_" + rest, f"1\tvamos\tir\tVERB{rest}", f"2\tnos\tyo\tPRON{rest}"]
    lines += [f"2.1\tx\ty\tVERB{rest}"]
    found = tagged("x.conllu", "\n".join(lines))
    assert found == {"words": [["vamos", "nos"]], "tags": [["VERB", "PRON"]]}


def test_a_tsv_file_with_lists_under_a_header_is_a_table(tagged: Callable) -> None:
    text = "tokens\tner_tags\n[\"EU\", \"is\"]\t['B-x' 'O']\n[\"so\"]\t['O']\n"
    assert tagged("x.tsv", text) == {"words": [["EU", "is"], ["so"]], "tags": [["B-x", "O"], ["O"]]}
    text = "tokens,tags\n\"['EU', 'is']\",\"['B-x', 'O']\"\n"
    assert tagged("x.csv", text) == {"words": [["EU", "is"]], "tags": [["B-x", "O"]]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("word\n", "line 1: expected two or more columns, a word and its tag, got 'word'"),
        ("EU NNP B-x\nis O\n", "line 2: expected 3 columns, as in line 1, got 2 ('is O')"),
        ("-DOCSTART- O\n\n", "expected at least one row, got none"),
        ("a\tO\n\tO\n", "expected words, got blank ones in 1 row"),
        ("a\tB-x\nb\t\n", "expected a tag for each word, got none (or -100) in 1 row"),
    ],
)
def test_conll_files_that_cannot_be_learnt_are_refused(tagged: Callable, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        tagged("x.conll", text)
    assert said in str(caught.value)


# --- the cache, and streams -----------------------------------------------------------------------------------


def test_a_cache_that_cannot_be_written_is_not_the_files_fault(
    problem: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    said = problem("x.csv", "text\na\n")
    assert said.startswith("HF_DATASETS_CACHE: expected a folder for prepared data that can be written, got ")


def test_a_cached_file_that_was_cut_short_is_made_again(read: Callable, tmp_path: Path) -> None:
    read("x.csv", "text,label\na,1\n")
    [cached] = (tmp_path / "cache").rglob("*.arrow")
    for damaged in (b"", cached.read_bytes()[:40], b"nonsense"):
        cached.write_bytes(damaged)
        assert read("x.csv", "text,label\na,1\n").to_dict() == {"text": ["a"], "label": [1]}


def test_whatever_a_library_raises_is_a_problem_of_the_file(problem: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError(), RecursionError("deep"), KeyError("x"), RuntimeError("a\nb")):

        def fail(*args: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setitem(files_module.READERS, ".csv", fail)
        assert "got one that cannot be read to its end" in problem("x.csv", "text\na\n")


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl", "x.json", "x.txt", "x.parquet"])
def test_a_stream_gives_the_rows_of_the_file(read: Callable, tmp_path: Path, name: str) -> None:
    texts = ["größer", "and, so; on"]
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string())}), tmp_path / "a")
    contents = {
        "x.csv": 'text,b\ngrößer,1\n"and, so; on",2\n',
        "x.tsv": "text\tb\ngrößer\t1\nand, so; on\t2\n",
        "x.jsonl": '{"text": "größer"}\n\n{"text": "and, so; on"}\n',
        "x.json": '[{"text": "größer"},\n {"text": "and, so; on"}]',
        "x.txt": "größer\nand, so; on",
        "x.parquet": (tmp_path / "a").read_bytes(),
    }
    rows = read(name, contents[name], streaming=True)
    assert isinstance(rows, IterableDataset)
    assert [row["text"].strip() for row in rows] == texts


def parquet(texts: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink)
    return sink.getvalue()


ANY_FILE: dict[str, tuple[str, bytes]] = {
    "parquet, gzipped": ("x.parquet.gz", gzip.compress(parquet(["a", "b"]))),
    "csv, gzipped": ("x.csv.gz", gzip.compress(b"text,b\na,c\nb,d\n")),
    "csv of Excel": ("x.csv", b"sep=;\r\ntext;b\r\na;c,d\r\n"),
    "csv of Excel, marked": ("x.csv", b"\xef\xbb\xbfsep=|\ntext|b\na,b;c|d\n"),
    "tsv of Excel": ("x.tsv", b'sep=\t\ntext\tb\na"b\tc\n'),
    "tsv of Excel with another delimiter": ("x.tsv", b"sep=;\ntext;b\na;c\n"),
    "text with other line ends": ("x.txt", "a\u2028b\x0cc\x85d\x0be\x1cf\rg\r\nh\n\ni".encode()),
    "text, marked": ("x.txt", b"\xef\xbb\xbfa\nb"),
}


@pytest.mark.parametrize("kind", ANY_FILE)
def test_a_stream_has_the_rows_of_the_whole_file(read: Callable, kind: str) -> None:
    name, content = ANY_FILE[kind]
    whole = read(name, content).to_list()
    assert list(read(name, content, streaming=True)) == whole
    assert "text" in whole[0]


def test_only_ends_of_lines_end_texts(read: Callable) -> None:
    lines = ["a\u2028b\x0cc\x85d\x0be\x1cf\r", "g\r\n", "h\n", "\n", "i"]
    assert read("x.txt", "".join(lines))["text"][:] == lines


@pytest.mark.parametrize("streaming", [True, False])
def test_what_is_wrong_after_the_line_of_excel_has_its_line_of_the_file(read: Callable, streaming: bool) -> None:
    with pytest.raises(InputError, match="line 4: expected 2 fields, as in the first line, got 1, separated by ';'"):
        list(read("x.csv", "sep=;\ntext;b\na;1\nb\n", streaming=streaming))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.csv", "text,text\na,1\n", "line 1: expected different column names, got 'text' twice"),
        ("x.csv", "text,b\na,1\nb\n", "line 3: expected 2 fields, as in the first line, got 1"),
        ("x.jsonl", '{"text": "a"}\n{"text', "line 2: expected a JSON record"),
        ("x.jsonl", "[1]", "line 1: expected a record"),
        ("x.json", '[{"text": "a"}', "expected complete JSON"),
        ("x.txt", "a\ncaf\xe9\n".encode("latin-1"), "expected text in UTF-8, got byte 0xe9 in"),
        ("x.parquet", b"PAR1 and more", "cannot be read to its end"),
    ],
)
def test_what_is_wrong_in_a_stream_is_said_when_its_row_is_read(
    read: Callable, name: str, content: bytes | str, said: str
) -> None:
    rows = read(name, content, streaming=True)
    with pytest.raises(InputError) as caught:
        list(rows)
    assert said in str(caught.value)
    assert str(name) in str(caught.value)


def test_records_of_a_stream_have_the_names_of_the_first(read: Callable) -> None:
    rows = read("x.jsonl", '{"text": "a", "b": 1}\n{"b": 2}\n{"text": "c", "d": 3}\n', streaming=True)
    assert list(rows) == [{"text": "a", "b": 1}, {"text": None, "b": 2}, {"text": "c", "b": None}]


def test_what_is_no_text_in_a_stream_is_refused_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "the film"}\n{"text": 7}\n{"text": ["was"]}\n')
    task = load_task(TaskArguments("causal_lm", train_file=str(tmp_path / "x.jsonl"), streaming=True, max_seq_length=2))
    blocks = task.encode_training(task.rows["train"], tiny_tokenizer())
    with pytest.raises(InputError, match=r"train: expected text in every row, got \['was'\]"):
        list(blocks)


BY_COLUMN = {
    "as pandas writes it": {"text": {"0": "a", "5": "b"}, "label": {"0": 1, "5": 2}},
    "split": {"columns": ["text", "label"], "index": [0, 5], "data": [["a", 1], ["b", 2]]},
    "lists": {"text": ["a", "b"], "label": [1, 2]},
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("layout", BY_COLUMN)
def test_json_column_by_column_is_a_table(read: Callable, layout: str, streaming: bool) -> None:
    rows = read("x.json", json.dumps(BY_COLUMN[layout]), streaming=streaming)
    assert [*rows] == [{"text": "a", "label": 1}, {"text": "b", "label": 2}]


def test_records_that_only_have_the_names_of_a_table_are_no_table(read: Callable, problem: Callable) -> None:
    record: dict[str, Any] = {"columns": ["a", "b"], "data": 5}
    assert read("x.json", json.dumps(record)).to_list() == [record]
    assert "expected records" in problem("x.json", json.dumps({**record, "data": [[1]]}))
    assert "expected at least one row" in problem("x.json", json.dumps({**record, "data": []}))


def test_a_single_record_of_lists_or_records_stays_one(read: Callable, tagged: Callable) -> None:
    for record in ({"tokens": ["a", "b"], "tags": ["x", "y"]}, {"a": {"en": "x"}, "b": {"en": "y"}}, {"text": ["a"]}):
        assert read("x.json", json.dumps(record)).to_list() == [record]
    words = {"Word": ["a", "b"], "Tag": ["B-x", "O"]}
    found = tagged("x.json", json.dumps(words), text_column="Word", label_column="Tag")
    assert found == {"words": [["a", "b"]], "tags": [["B-x", "O"]]}


def test_lines_of_fasttext_are_said_to_be_labelled(read: Callable, caplog: pytest.LogCaptureFixture) -> None:
    assert len(read("x.txt", "__label__a the film\n\n__label__b __label__a the book\n")) == 3
    assert "expected running text, got lines that begin with __label__ (fastText); to classify" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_quotes_that_a_program_put_around_fields_of_a_tsv_file_are_said_to_be_read(
    read: Callable, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    content = 'text\tlabel\n"He said ""hi"", ok"\ta\nso\tb\n"no"\ta\n'
    assert next(iter(read("x.tsv", content, streaming=streaming)))["text"] == '"He said ""hi"", ok"'
    assert caplog.text.count("got some with those inside doubled in column 'text' ('\"He said") == 1
    assert read("y.csv", content)["text"][0] == 'He said "hi", ok'
    assert caplog.text.count("doubled") == 1


@pytest.mark.parametrize("text", ['"hi" there', '"hi"', '""', '"a" and ""b""', '5" x'])
def test_other_quotation_marks_in_a_tsv_file_are_part_of_the_text(
    read: Callable, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read("x.tsv", f"text\tlabel\n{text}\ta\n")["text"][0] == text
    assert not caplog.records


def test_logging_is_quiet_about_good_files(read: Callable, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read("x.csv", "text,label\na,1\n")
    assert not caplog.records


# --- columns whose fields look like numbers -----------------------------------------------------------------------


def rows_of(task: str, folder: Path, content: str, name: str = "rows.csv", **arguments: Any) -> Dataset:
    file = folder / name
    file.write_text(content)
    return load_task(TaskArguments(task, train_file=str(file), **arguments)).rows["train"]


def test_texts_stay_as_they_are_in_the_file_where_all_of_them_are_numbers(tmp_path: Path) -> None:
    rows = rows_of("sequence_classification", tmp_path, "text,label\n3.50,0\n1998,1\n")
    assert rows["text"][:] == ["3.50", "1998"]
    named = rows_of("sequence_classification", tmp_path, "body,label\n3.50,0\n1998,1\n", text_column="body")
    assert named["text"][:] == ["3.50", "1998"]
    # Scores are numbers all the same.
    assert rows_of("regression", tmp_path, "text,label\n1,3.50\n2,4\n")["label"][:] == [3.5, 4.0]


def test_answers_that_are_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    content = (
        "id,context,question,answer_text,answer_start\n1,It cost 3.50 then.,What?,3.50,8\n2,1998 it was.,?,1998,0\n"
    )
    answers = rows_of("question_answering", tmp_path, content)["answers"][:]
    assert [answer["text"] for answer in answers] == [["3.50"], ["1998"]]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_an_empty_field_is_a_row_without_labels_also_where_labels_are_numbers(tmp_path: Path, name: str) -> None:
    content = "text,label\na,1\nb,\nc,2\n".replace(",", "," if name == "rows.csv" else "\t")
    assert rows_of("multi_label_classification", tmp_path, content, name)["label"][:] == [[1, 0], [0, 0], [0, 1]]


def test_whole_numbers_that_pandas_writes_with_a_point_beside_empty_fields_are_the_same_labels(tmp_path: Path) -> None:
    def labels(fields: list[str]) -> list[str] | None:
        file = tmp_path / "rows.csv"
        file.write_text("text,label\n" + "".join(f"a{number},{field}\n" for number, field in enumerate(fields)))
        return load_task(TaskArguments("multi_label_classification", train_file=str(file))).label_names

    assert labels(["1.0", "", "3.0"]) == labels(["1", "", "3"]) == labels(["1", "3"]) == ["1", "3"]


# --- streams as files that are read whole ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["text\tlabel\na\t1\n\nb\t2\n\n", "\ufefftext\tlabel\na\t1\nb\t2\n"])
def test_a_stream_reads_blank_lines_and_byte_order_marks_as_a_whole_file_does(
    read: Callable[..., Dataset], content: str
) -> None:
    whole = read("rows.tsv", content, encoding="utf-8")
    streamed = list(read("rows.tsv", content, encoding="utf-8", streaming=True))
    assert [row["text"] for row in streamed] == whole["text"][:] == ["a", "b"]


def test_a_byte_order_mark_is_no_part_of_a_streamed_record(read: Callable[..., Dataset]) -> None:
    content = '\ufeff{"text": "a"}\n{"text": "b"}\n'
    assert list(read("rows.jsonl", content, encoding="utf-8", streaming=True)) == [{"text": "a"}, {"text": "b"}]


def test_one_column_for_both_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected two columns for the text and its pair, got 'text' twice"):
        rows_of(
            "sequence_classification", tmp_path, "text,label\na,0\nb,1\n", text_column="text", text_pair_column="text"
        )
