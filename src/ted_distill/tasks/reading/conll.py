"""CoNLL files -> tables: one word per line with its tags in further columns, and a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from ...errors import InputError, shown
from .encodings import decoded, lines_of
from .file_options import FileOptions

CONLL_U = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
"""The columns of Universal Dependencies."""

_DOCUMENT = "-DOCSTART-"
_COLUMNS = "# global.columns ="
_WORD_NAMES = {"token", "tokens", "word", "words", "form", "text"}
_TAG_NAMES = {"tag", "tags", "label", "labels", "ner", "ner_tag", "ner_tags", "pos", "pos_tag", "pos_tags", "upos"}
_BLANKS = re.compile(r"[ \t]+")
_WORD_ID = re.compile(r"\d+")
_NO_WORD_ID = re.compile(r"\d+[-.]\d+")

Line = tuple[int, list[str]]
"""Its number and fields."""


def read_conll(data: bytes, options: FileOptions) -> pa.Table:
    """A row per sentence, a list of text per column. Columns are called 1, 2, ... unless the file names them.

    Fields are separated by tabs if every line has one, else by blanks. `-DOCSTART-` lines, comments and the ranges and
    empty words of CoNLL-U are left out.

    Raises:
        InputError: fewer than two columns, or lines with different numbers of them.
    """
    sentences, names = _sentences(decoded(data, options.encoding), options.delimiter)
    first = next((line for sentence in sentences for line in sentence), None)
    if first is None:
        return pa.table({})
    number, fields = first
    if len(fields) < 2 and options.has_labels:
        raise InputError(
            f"line {number}: expected two or more columns, a word and its tag, got {shown(' '.join(fields))}; fix the "
            "line, or name what separates the columns with --delimiter"
        )
    for other, of_line in (line for sentence in sentences for line in sentence):
        if len(of_line) != len(fields):
            raise InputError(
                f"line {other}: expected {len(fields)} columns, as in line {number}, got {len(of_line)} "
                f"({shown(' '.join(of_line))}); fix the line, or name what separates the columns with --delimiter"
            )
    names = names if len(names) == len(fields) else [str(place + 1) for place in range(len(fields))]
    columns = ([[of_line[place] for _, of_line in sentence] for sentence in sentences] for place in range(len(fields)))
    kind = pa.list_(pa.string())
    return pa.table({name: pa.array(column, kind) for name, column in zip(names, columns, strict=True)})


def is_a_sentence_a_line(data: bytes, options: FileOptions) -> bool:
    """Whether a text without labels is no CoNLL file: its lines have other numbers of words, or nothing is between
    sentences, and the first is not a word alone.
    """
    sentences, _ = _sentences(decoded(data, options.encoding), options.delimiter)
    widths = {len(fields) for sentence in sentences for _, fields in sentence}
    return len(widths) > 1 or (len(sentences) < 2 and widths != {1})


def is_table(data: bytes, options: FileOptions) -> bool:
    """Whether a tsv file has a row per line: lists in cells, under a header that names the column of words."""
    lines = [line.split("\t") for line in lines_of(decoded(data, options.encoding)) if line.strip()][:2]
    return (
        len(lines) == 2
        and len(lines[0]) == len(lines[1])
        and any(name == options.words and field.startswith("[") for name, field in zip(*lines, strict=True))
    )


def _sentences(text: str, delimiter: str | None) -> tuple[list[list[Line]], Sequence[str]]:
    """The lines of each sentence, and the names of the columns, if the file names them."""
    lines = lines_of(text)
    sure = [line for line in lines if line.strip() and not line.startswith(("#", _DOCUMENT))]
    tabs = bool(sure) and all("\t" in line for line in sure)
    separator = delimiter or ("\t" if tabs else None)

    def split(line: str) -> list[str]:
        if separator is None:
            return _BLANKS.split(line.strip(" \t"))
        return [field.strip(" ") for field in line.split(separator)]

    tags = {split(line)[-1] for line in sure}
    width = len(split(sure[0])) if sure else 0
    names: Sequence[str] = []
    sentences: list[list[Line]] = [[]]
    for number, line in enumerate(lines, start=1):
        if line.startswith(_COLUMNS):
            names = line.removeprefix(_COLUMNS).split()
        elif not line.strip() or line.startswith(_DOCUMENT):
            sentences.append([])
        elif sentences[-1] or not _is_comment(line, split(line), width, tags):
            sentences[-1].append((number, split(line)))
    found = [sentence for sentence in sentences if sentence]
    if not names and _is_conll_u(found):
        names = CONLL_U
    if names and names[0] == CONLL_U[0]:
        found = list(_words_only(found))
    if found and not names and _is_header(found[0][0][1]):
        names = found[0].pop(0)[1]
        found = [sentence for sentence in found if sentence]
    return found, names


def _is_comment(line: str, fields: list[str], width: int, tags: set[str]) -> bool:
    """Whether the first line of a sentence is a comment: `#` is a word too, and so is `#film`."""
    if not line.startswith("#"):
        return False
    return len(fields) != width or (fields[0] == "#" and fields[-1] not in tags)


def _is_conll_u(sentences: list[list[Line]]) -> bool:
    lines = [fields for sentence in sentences for _, fields in sentence]
    ids = [fields[0] for fields in lines if len(fields) == len(CONLL_U)]
    known = all(_WORD_ID.fullmatch(id_) or _NO_WORD_ID.fullmatch(id_) for id_ in ids)
    return bool(lines) and len(ids) == len(lines) and known


def _words_only(sentences: list[list[Line]]) -> Iterator[list[Line]]:
    """Without the lines of several words (1-2), whose words follow, and of words that are not in the text (1.1)."""
    for sentence in sentences:
        words = [(number, fields) for number, fields in sentence if not _NO_WORD_ID.fullmatch(fields[0])]
        if words:
            yield words


def _is_header(fields: list[str]) -> bool:
    return fields[0].casefold() in _WORD_NAMES and fields[-1].casefold() in _TAG_NAMES and len(set(fields)) > 1
