"""Data files of every kind and for every task, with what must come of each: its rows, or a refusal.

Rows are drawn first. One of several ways to spoil them may be applied, after which they must be refused. Then they are
written to bytes, which may be spoilt too. So what is expected is known without reading anything.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

KINDS = ("csv", "tsv", "json", "jsonl", "parquet", "conll", "txt")
Draw = Callable[[st.SearchStrategy[Any]], Any]

REFUSED = "refused"


@dataclass
class DataFile:
    """A file, the arguments that name it, and the rows that must come of it, or `REFUSED`."""

    name: str
    content: bytes
    task: str
    expected: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    why: str = "fine"


# --- texts and labels -----------------------------------------------------------------------------------------

ODD = "\u00e9\u00df\u4e2d\U0001f642\u0301\u200b\u2028\x85\x0b\x1c\u202e;|,'\"\\#[]{}()=%"
CHARACTERS = st.one_of(
    st.sampled_from("abcdefghij XYZ019.-_" + ODD),
    st.characters(codec="utf-8", exclude_characters="\0\r\n\t"),
)
LETTER = st.sampled_from("abcxyz\u00e9\u4e2d")


@st.composite
def texts(draw: Draw, characters: st.SearchStrategy[str] = CHARACTERS) -> str:
    """Text that is not blank, no number and no list."""
    return draw(LETTER) + draw(st.text(characters, max_size=12))


LINES = texts(st.one_of(CHARACTERS, st.sampled_from("\n\t\r")))
NAME = st.builds(lambda start, rest: (start + rest).strip(), LETTER, st.text("abcd XY-_.019\u00e9", max_size=5))
QUOTED_NAME = st.builds(lambda start, rest: (start + rest).strip(), LETTER, st.text("ab '\"\\,;|[]\u00e9", max_size=4))
NUMBERS = st.integers(0, 9)


def distinct(names: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(names, min_size=2, max_size=4, unique_by=lambda name: str(name))


def spread(draw: Draw, count: int, classes: list[Any]) -> list[Any]:
    """So many of the classes, two of them at least once."""
    rest = draw(st.lists(st.sampled_from(classes), min_size=count - 2, max_size=count - 2))
    return draw(st.permutations([*classes[:2], *rest]))


# --- rows of each task, and ways to spoil them ----------------------------------------------------------------


@dataclass
class Rows:
    """Columns of a table, and what must come of them."""

    columns: dict[str, list[Any]]
    expected: Any
    why: str = "fine"
    arguments: dict[str, Any] = field(default_factory=dict)

    def spoil(self, column: str, row: int, value: Any) -> None:
        """Put another value in, which must be refused."""
        self.columns[column] = [*self.columns[column]]
        self.columns[column][row] = value
        self.expected, self.why = REFUSED, f"{column} {value!r}"


def spoilt(draw: Draw, rows: Rows, values: dict[str, list[Any]]) -> Rows:
    """Perhaps with one value that must be refused; `values` are those, for each column."""
    if draw(st.integers(0, 2)) == 0 and any(values.values()):
        column = draw(st.sampled_from([name for name, bad in values.items() if bad]))
        rows.spoil(column, draw(st.integers(0, len(rows.columns[column]) - 1)), draw(st.sampled_from(values[column])))
    return rows


BAD_TEXTS = [None, "", "  ", "\u3000\n", "a\0b"]


@st.composite
def classes(draw: Draw, text: st.SearchStrategy[str], typed: bool) -> Rows:
    """`typed`: whether the file tells numbers from text, and null from empty text."""
    count = draw(st.integers(3, 6))
    names = draw(distinct(NUMBERS if draw(st.booleans()) else NAME))
    labels = spread(draw, count, names)
    columns = {"text": draw(st.lists(text, min_size=count, max_size=count)), "label": labels}
    bad: list[Any] = [None, -100, -1] if isinstance(names[0], int) else [None, "", "-100", "a\0b", "['a', 'b']"]
    if typed and isinstance(names[0], int):
        bad += [0.5, float("inf"), [1], {"a": 1}, 10**30, "x"]
    rows = Rows(columns, {"text": columns["text"], "label": [str(label) for label in labels]})
    if draw(st.integers(0, 9)) == 0:
        return Rows({**columns, "label": [names[0]] * count}, REFUSED, "a single class")
    return spoilt(draw, rows, {"text": BAD_TEXTS, "label": bad})


@st.composite
def scores(draw: Draw, text: st.SearchStrategy[str], typed: bool) -> Rows:
    count = draw(st.integers(2, 5))
    number = st.floats(-1e6, 1e6).map(lambda value: round(value, 3)) if draw(st.booleans()) else st.integers(0, 100)
    labels = draw(st.lists(number, min_size=count, max_size=count))
    columns = {"text": draw(st.lists(text, min_size=count, max_size=count)), "label": labels}
    rows = Rows(columns, {"text": columns["text"], "label": [float(label) for label in labels]})
    if set(labels) == {-1.0}:
        rows.expected, rows.why = REFUSED, "all hidden"
    elif len(set(labels)) == 1:
        rows.expected, rows.why = REFUSED, "scores that are all the same"
    bad = [None, float("nan"), float("inf"), -float("inf"), 1e30, "four", "1,5", "1_0"]
    return spoilt(draw, rows, {"text": BAD_TEXTS, "label": [*bad, True, [1.0]] if typed else bad})


@st.composite
def label_sets(draw: Draw, text: st.SearchStrategy[str], typed: bool) -> Rows:
    count = draw(st.integers(3, 6))
    notation = draw(st.sampled_from(["list"] if typed else ["json", "python", "numpy", "|", ";", ",", " / "]))
    plain = len(notation) == 1 or notation == " / "
    names = draw(distinct(NUMBERS if draw(st.booleans()) else (NAME if plain else QUOTED_NAME)))
    sets = draw(st.lists(st.lists(st.sampled_from(names), unique=True), min_size=count - 2, max_size=count - 2))
    sets = draw(st.permutations([names[:2], names[1:], *sets]))
    written = [write(row, notation) for row in sets]
    columns = {"text": draw(st.lists(text, min_size=count, max_size=count)), "labels": written}
    arguments = {"label_separator": notation} if notation == " / " or (plain and draw(st.booleans())) else {}
    rows = Rows(columns, {"text": columns["text"], "labels": [{str(name) for name in row} for row in sets]})
    rows.arguments = arguments
    if {"0", "1"} == {str(name) for row in sets for name in row} and all(len(row) == 2 for row in sets):
        rows.expected, rows.why = REFUSED, "zeros and ones"
    twice = write([names[0], names[1], names[0]], notation)
    bad = [None, [None], [[names[0]]], [0.5], [names[0], -100], twice] if typed else [twice, write([-100], notation)]
    if not plain and not typed:
        bad += ["['a'", "[[1], [2]]", "[0 ... 2]", "[0.5]", "[None]", "[True, False]", "['a' b]", "x|y"]
    return spoilt(draw, rows, {"text": BAD_TEXTS, "labels": bad})


def write(labels: list[Any], notation: str) -> Any:
    """Labels of one row as a file holds them."""
    match notation:
        case "list":
            return labels
        case "json":
            return json.dumps(labels)
        case "python":
            return str(labels)
        case "numpy":
            return str(np.array(labels, dtype=object))
    return notation.join(map(str, labels))


@st.composite
def tagged(draw: Draw, characters: str, typed: bool) -> Rows:
    """`characters`: that words may have."""
    first = st.sampled_from("abz\u00e9\u4e2d-'\"([.#")
    word = st.builds(lambda start, rest: start + rest, first, st.text(characters, max_size=4))
    word = word.filter(lambda found: not found.startswith(("-DOCSTART-", "#")) or found == "#")
    kinds = st.sampled_from(["B-x", "I-x", "B-y", "NOUN", "."])
    names = ["O", *draw(st.lists(kinds, min_size=1, max_size=3, unique=True))]
    sentences = [
        [(draw(word), draw(st.sampled_from(names))) for _ in range(draw(st.integers(1, 4)))]
        for _ in range(draw(st.integers(1, 4)))
    ] + [[("the", name) for name in names]]
    columns = {
        "tokens": [[token for token, _ in sentence] for sentence in sentences],
        "tags": [[tag for _, tag in sentence] for sentence in sentences],
    }
    rows = Rows(columns, {name: list(column) for name, column in columns.items()})
    if not typed:
        return rows
    short = columns["tags"][0][1:]
    bad_tags = [None, short, [None, *short], ["-100", *short], ["", *short], "O O"]
    others = columns["tokens"][0][1:]
    bad_words = [None, [], ["", *others], [" ", *others], [None, *others], ["a\0b", *others]]
    if draw(st.integers(0, 2)) == 0:
        column, bad = draw(st.sampled_from([("tags", bad_tags), ("tokens", bad_words)]))
        rows.spoil(column, 0, draw(st.sampled_from(bad)))
    return rows


@st.composite
def running_text(draw: Draw, text: st.SearchStrategy[str], typed: bool) -> Rows:
    lines = draw(st.lists(text, min_size=1, max_size=5))
    return spoilt(draw, Rows({"text": lines}, {"text": lines}), {"text": ["a\0b", *([None] if typed else [])]})


@st.composite
def questions(draw: Draw, text: st.SearchStrategy[str], typed: bool) -> Rows:
    columns: dict[str, list[Any]] = {"id": [], "context": [], "question": [], "answers": []}
    for number in range(draw(st.integers(1, 3))):
        context = draw(text)
        start = draw(st.integers(0, len(context) - 1))
        answer = context[start : draw(st.integers(start + 1, len(context)))]
        if not answer.strip():
            start, answer = 0, context
        columns["id"].append(f"q{number}")
        columns["context"].append(context)
        columns["question"].append(draw(text))
        none = draw(st.integers(0, 3)) == 0
        columns["answers"].append({"text": [] if none else [answer], "answer_start": [] if none else [start]})
    rows = Rows({name: list(column) for name, column in columns.items()}, columns)
    bad = [{"text": ["nowhere\n"], "answer_start": [0]}, {"text": ["a"], "answer_start": [3_000_000_000]}, None]
    bad += [{"text": ["a"], "answer_start": []}, {"text": ["a"], "answer_start": [-1]}]
    rows = spoilt(draw, rows, {"context": BAD_TEXTS, "question": ["a\0b"], "answers": bad})
    if not typed:
        write_answers = draw(st.sampled_from([json.dumps, str, _numpy_answers]))
        answers = rows.columns["answers"]
        rows.columns["answers"] = [value if value is None else write_answers(value) for value in answers]
    return rows


def _numpy_answers(answers: dict[str, list[Any]]) -> str:
    texts, starts = np.array(answers["text"], dtype=object), np.array(answers["answer_start"], dtype=np.int64)
    return str({"text": texts, "answer_start": starts})


# --- rows -> bytes --------------------------------------------------------------------------------------------


@st.composite
def files(draw: Draw, kind: str) -> DataFile:
    """A file of this kind."""
    task = draw(st.sampled_from(TASKS[kind]))
    rows = draw(_rows(task, kind))
    data, arguments = draw(WRITERS[kind](rows, task))
    file = DataFile(f"rows.{kind}", data, task, rows.expected, {**rows.arguments, **arguments}, rows.why)
    damage(draw, file, kind)
    if draw(st.integers(0, 9)) == 0:
        file.name, file.content = file.name + ".gz", gzip.compress(file.content, mtime=0)
        if draw(st.integers(0, 3)) == 0:
            file.content, file.expected, file.why = file.content[:-5], REFUSED, "gzip cut short"
    return file


def _rows(task: str, kind: str) -> st.SearchStrategy[Rows]:
    typed = kind in ("json", "jsonl", "parquet")
    text = texts() if kind in ("tsv", "txt") else LINES
    match task:
        case "sequence_classification":
            return classes(text, typed)
        case "regression":
            return scores(text, typed)
        case "multi_label_classification":
            return label_sets(text, typed)
        case "token_classification":
            return tagged("abc.,;'\"#[]\u00e9\xa0\u200b" + (" " if typed else ""), typed)
        case "question_answering":
            return questions(text, typed)
    return running_text(text, typed)


TABLE_TASKS = ("sequence_classification", "regression", "multi_label_classification", "question_answering", "causal_lm")
TASKS = {
    **dict.fromkeys(("csv", "tsv"), TABLE_TASKS),
    **dict.fromkeys(("json", "jsonl", "parquet"), (*TABLE_TASKS, "token_classification")),
    "conll": ("token_classification",),
    "txt": ("causal_lm", "masked_lm", "token_classification"),
}


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


@st.composite
def written_csv(draw: Draw, rows: Rows, task: str) -> tuple[bytes, dict[str, Any]]:
    delimiter = draw(st.sampled_from(",;\t|"))
    lines = list(zip(*rows.columns.values(), strict=True))
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    # What has a line end in it must be in quotes, which `csv` does not do for each kind of line end.
    if any("\r" in _cell(value) or "\n" in _cell(value) for line in lines for value in line) or len(rows.columns) == 1:
        quoting = csv.QUOTE_ALL
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"])))
    writer.writerow(rows.columns)
    writer.writerows([[_cell(value) for value in line] for line in lines])
    named = {"delimiter": delimiter} if draw(st.booleans()) else {}
    data, encoding = encoded(draw, out.getvalue())
    return data, named | encoding


@st.composite
def written_tsv(draw: Draw, rows: Rows, task: str) -> tuple[bytes, dict[str, Any]]:
    lines = [
        list(rows.columns),
        *([_cell(value) for value in line] for line in zip(*rows.columns.values(), strict=True)),
    ]
    if any("\n" in cell for line in lines for cell in line) and rows.expected != REFUSED:
        rows.expected, rows.why = REFUSED, "a line end in a tsv field"
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return encoded(draw, end.join("\t".join(line) for line in lines) + draw(st.sampled_from(["", end])))


@st.composite
def written_json(draw: Draw, rows: Rows, task: str) -> tuple[bytes, dict[str, Any]]:
    records = [dict(zip(rows.columns, line, strict=True)) for line in zip(*rows.columns.values(), strict=True)]
    shape = draw(st.sampled_from(["list", "data", "lines"]))
    document = {"version": 1, "data": records} if shape == "data" else records
    ascii_only = draw(st.booleans())
    if shape == "lines":
        text = "\n".join(json.dumps(record, ensure_ascii=ascii_only) for record in records)
    else:
        text = json.dumps(document, indent=draw(st.sampled_from([None, 1])), ensure_ascii=ascii_only)
    return encoded(draw, text)


@st.composite
def written_parquet(draw: Draw, rows: Rows, task: str) -> tuple[bytes, dict[str, Any]]:
    arrays = {}
    for name, values in rows.columns.items():
        try:
            # Nor can a file hold a truth value among fractions, which Arrow takes for 1.
            array = pa.array([str(value) if value is True else value for value in values])
        except (pa.ArrowException, OverflowError):  # no file can hold it
            array = pa.array([str(value) for value in values])
            if rows.why.startswith(name):
                array = pa.array([None] * len(values))
        arrays[name] = draw(st.sampled_from([array, other_layout(array)]))
    out = io.BytesIO()
    pq.write_table(pa.table(arrays), out)
    return out.getvalue(), {}


def other_layout(array: pa.Array) -> pa.Array:
    """The same values as polars or pandas write them."""
    if pa.types.is_string(array.type):
        return array.cast(pa.large_string()) if len(array) % 2 else array.dictionary_encode()
    if pa.types.is_list(array.type) and pa.types.is_string(array.type.value_type):
        return array.cast(pa.large_list(pa.large_string()))
    return array


@st.composite
def written_conll(draw: Draw, rows: Rows, task: str) -> tuple[bytes, dict[str, Any]]:
    between = draw(st.sampled_from(["\t", " ", "   "]))
    middle = draw(st.integers(0, 2))
    lines = draw(
        st.sampled_from([[], ["-DOCSTART-" + f"{between}O" * (middle + 1), ""], ["# a comment of five words", ""]])
    )
    for sentence in zip(*rows.columns.values(), strict=True):
        lines += [between.join([word, *["_"] * middle, tag]) for word, tag in zip(*sentence, strict=True)] + [""]
    return encoded(draw, draw(st.sampled_from(["\n", "\r\n"])).join(lines))


@st.composite
def written_text(draw: Draw, rows: Rows, task: str) -> tuple[bytes, dict[str, Any]]:
    if task == "token_classification":
        return draw(written_conll(rows, task))
    lines = [_cell(line) + "\n" for line in rows.columns["text"]]
    if rows.expected != REFUSED:
        rows.expected = {"text": "".join(lines)}
    return encoded(draw, "".join(lines))


WRITERS: dict[str, Any] = {
    "csv": written_csv, "tsv": written_tsv, "json": written_json, "jsonl": written_json, "parquet": written_parquet,
    "conll": written_conll, "txt": written_text,
}  # fmt: skip


def encoded(draw: Draw, text: str) -> tuple[bytes, dict[str, Any]]:
    encoding = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-32"]))
    named = encoding.startswith("utf-8") is False or draw(st.integers(0, 3)) == 0
    return text.encode(encoding), {"encoding": encoding} if named else {}


def damage(draw: Draw, file: DataFile, kind: str) -> None:
    """Perhaps spoil the bytes, so that no rows can come of them."""
    ways = ["empty", "another encoding"]
    if kind == "parquet":
        ways = ["empty", "cut short", "no such file"]
    elif kind in ("json", "jsonl"):
        ways += ["cut short", "no record"]
    elif kind in ("csv", "tsv", "conll"):
        ways += ["a line more", "twice"] if kind != "conll" else ["a line more"]
    if draw(st.integers(0, 6)) != 0 or (kind != "parquet" and file.arguments.get("encoding", "utf-8") != "utf-8"):
        return
    way = draw(st.sampled_from(ways))
    match way:
        case "empty":
            file.content = draw(st.sampled_from([b"", b"\n", b"  \r\n"]))
        case "another encoding":
            file.content += "\n\u00e9\u00e8\n".encode("latin-1")
        case "cut short":
            # The last bracket at least: what was an object or a list is none without it.
            file.content = file.content.rstrip()[: -draw(st.integers(1, 8))]
        case "no such file":
            file.content = b"PAR1" + draw(st.binary(max_size=30)) + b"PAR1"
        case "no record":
            file.content = draw(st.sampled_from([b"7", b'["a"]', b'"text"', b"null", b"[[1]]", b"{", b"nonsense"]))
        case "a line more":
            file.content += b"\none,field;too|many" + b"\t" * 7 + b"for,any;table|here 5 6 7\n"
        case "twice":
            header, rest = file.content.split(b"\n", 1)
            header = header.rstrip(b"\r")
            for delimiter in (b"\t", b";", b"|", b","):
                if delimiter in header or delimiter == b",":
                    break
            file.content = delimiter.join([header, header]) + b"\n" + rest
    file.expected, file.why = REFUSED, way
