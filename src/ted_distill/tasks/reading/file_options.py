"""How data files are read, as arguments say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ...errors import InputError, raise_if_any, shown
from ..task_arguments import TaskArguments
from .columns import USUAL_LABELS, TextColumns, text_names
from .encodings import is_text_encoding
from .notices import notice

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
    """Columns that may be read, several with commas between them, or patterns of their names. Others are left out if no
    table holds them [all]."""
    has_labels: bool = True
    """Whether rows have labels: those of `unlabelled_file` may have words alone."""
    typed: bool = True
    """Whether columns of csv and tsv files that hold numbers alone are numbers; if not, all are text."""

    def may_read(self, column: str) -> bool:
        """Whether a column may be read; if not, it is no reason to refuse a file."""
        if self.read is None:
            return True
        # Among several with commas between them, a name may have commas itself.
        one = f",{_close(column)},"
        return any(one in f",{_close(name)}," or fnmatchcase(column, name) for name in self.read)

    def readable(self, names: Iterable[str], made: Callable[[str], Any]) -> dict[str, Any]:
        """What is made of each column; one that cannot be made is left out with a notice, if nothing reads it.

        Raises:
            InputError: a column that may be read cannot be made, or none can.
        """
        found: dict[str, Any] = {}
        problems: list[str] = []
        for name in names:
            try:
                found[name] = made(name)
            except InputError as error:
                problems += error.problems
                if self.may_read(name):
                    raise
        if not found:
            raise_if_any(problems[:1])
        for problem in problems:
            notice(f"{problem} (the column is left out, as nothing reads it)")
        return found


def _close(names: str) -> str:
    """Names without blanks around commas."""
    return ",".join(part.strip() for part in names.split(","))


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
    labels = {label} if label else {*USUAL_LABELS, *_USUAL_TAGS, *_USUAL_ANSWERS}
    return text_names(columns) | labels | {*_USUAL_WORDS}


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
