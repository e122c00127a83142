"""How data files are read, as arguments say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from ...errors import shown
from ..task_arguments import TaskArguments
from .columns import USUAL_LABELS, TextColumns, text_names
from .encodings import is_text_encoding

_USUAL_WORDS, _USUAL_TAGS = ("tokens", "FORM", "context"), ("tags", "ner_tags", "UPOS")
_USUAL_ANSWERS = ("answers", "answer_text", "answer_start", "is_impossible")
_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " "}


class FileOptions(NamedTuple):
    """What a reader must know besides the file."""

    delimiter: str | None = None
    """Between the fields of a line [found in the header]."""
    encoding: str | None = None
    """Of text files [UTF-8]."""
    words: str | None = None
    """Name of the column of words, for a task of tagged words: txt and tsv files may then have one word per line."""
    texts: tuple[str, ...] = ()
    """Columns of csv and tsv files that are text whatever is in them: of numbers, 3.50 would become 3.5."""
    lists: tuple[str, ...] = ()
    """Columns of csv and tsv files in which an empty field is an empty list, and not a missing number."""
    read: tuple[str, ...] | None = None
    """Columns that may be read, or patterns of their names. Others are left out if no table holds them [all]."""

    def may_read(self, column: str) -> bool:
        """Whether a column may be read; if not, it is no reason to refuse a file."""
        return self.read is None or any(column == name or fnmatchcase(column, name) for name in self.read)


def file_options(
    arguments: TaskArguments,
    words: str | None = None,
    texts: Iterable[str] = (),
    read: Iterable[str] | None = None,
) -> FileOptions:
    """The options that arguments name, and those of a task; delimiters may be named by words."""
    delimiter = named_separator(arguments.delimiter)
    columns = None if read is None else tuple(sorted(read))
    return FileOptions(delimiter, arguments.encoding, words, tuple(sorted(texts)), read=columns)


def columns_read(arguments: TaskArguments) -> set[str]:
    """Columns that a task may read: those that arguments name, and those with usual names in place of others."""
    label = arguments.label_column
    columns = TextColumns(arguments.text_column, arguments.text_pair_column, label)
    # Several label columns are named with commas between them, which names may have themselves.
    parts = label.split(",") if label else []
    labels = {",".join(parts[i:j]).strip() for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)}
    return text_names(columns) | (labels or {*USUAL_LABELS, *_USUAL_TAGS, *_USUAL_ANSWERS}) | {*_USUAL_WORDS}


def named_separator(name: str | None) -> str | None:
    """A separator that is hard to type, by its name, such as `tab`; others as they are."""
    return _NAMED.get(name or "", name)


def option_problems(arguments: TaskArguments) -> Iterator[str]:
    """What is wrong with `delimiter`, `label_separator` and `encoding`."""
    delimiter = file_options(arguments).delimiter
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
        yield (
            f"delimiter: expected one character such as ; or |, or tab, got {shown(arguments.delimiter)}; leave it out "
            "to find it in the file's first line"
        )
    if arguments.label_separator == "":
        yield "label_separator: expected what is between two labels, such as ;, got nothing; leave it out to find it"
    if arguments.encoding is not None and not is_text_encoding(arguments.encoding):
        yield (
            f"encoding: expected the name of an encoding of text, such as utf-8, utf-16 or cp1252, got "
            f"{shown(arguments.encoding)}; leave it out for utf-8"
        )
