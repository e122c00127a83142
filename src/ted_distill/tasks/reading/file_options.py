"""How data files are read, as arguments say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ...errors import shown
from ..task_arguments import TaskArguments
from .encodings import is_text_encoding

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


def file_options(arguments: TaskArguments, words: str | None = None, texts: Iterable[str] = ()) -> FileOptions:
    """The options that arguments name, and those of a task; delimiters may be named by words."""
    return FileOptions(named_separator(arguments.delimiter), arguments.encoding, words, tuple(sorted(texts)))


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
