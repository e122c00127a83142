"""Bytes -> text, in an encoding that is known; one that is likely is only proposed."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from ...errors import InputError, shown

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LOOKED_AT = 4096
"""Bytes from which an encoding is guessed."""


def decoded(data: bytes, encoding: str | None = None) -> str:
    """Text without a byte order mark.

    Args:
        encoding: a name that Python knows [UTF-8].

    Raises:
        InputError: the bytes are not text in this encoding; proposes one in which they are.
    """
    name = encoding or "utf-8"
    if encoding is None and (likely := _marked(data)):
        raise InputError(f"expected text in UTF-8, got the byte order mark of {likely}; set --encoding {likely}")
    try:
        text = data.decode(name).removeprefix("\ufeff")
    except UnicodeError as error:
        raise InputError(_undecodable(data, name, getattr(error, "start", 0))) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        likely = likely_encoding(data)
        what = f"set --encoding {likely}" if likely.startswith("utf-16") and likely != name else "remove it"
        raise InputError(
            f"line {line}: expected text in {name.upper()}, got a NUL character, which no text has; {what}"
        )
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text that ends them with LF, CR LF or CR; other characters that break lines are part of them."""
    return [line.rstrip("\r") for line in text.split("\n" if "\n" in text else "\r")]


def text_lines(text: str) -> Iterator[str]:
    """The lines of a text with their ends, which are LF, CR LF or CR, as those of a file that is read line by line."""
    return io.StringIO(text, newline="")


def is_text_encoding(name: str) -> bool:
    """Whether Python knows an encoding of this name."""
    try:
        return isinstance(b"a".decode(name, "replace"), str)
    except (LookupError, ValueError, TypeError):
        return False


def likely_encoding(data: bytes) -> str:
    """The most likely of the usual encodings."""
    if marked := _marked(data):
        return marked
    start = data[:_LOOKED_AT]
    # Letters of most languages in UTF-16 have a zero in one half.
    for name, zeros in (("utf-16-le", start[1::2]), ("utf-16-be", start[0::2])):
        if zeros.count(0) * 3 > len(zeros):
            return name
    for name in ("utf-8", "cp1252"):
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def _marked(data: bytes) -> str | None:
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)


def _undecodable(data: bytes, name: str, start: int) -> str:
    """The line that cannot be decoded, and what it is in the encoding that is likely."""
    likely = likely_encoding(data)
    number = data.count(b"\n", 0, start) + 1
    line = data[data.rfind(b"\n", 0, start) + 1 :].split(b"\n", 1)[0]
    found = f"byte 0x{data[start]:02x}" if start < len(data) else "an end in the middle of a character"
    problem = f"line {number}: expected text in {name.upper()}, got {found}"
    if likely.startswith("utf"):
        return f"{problem}; set --encoding {likely}"
    around = line[max(0, start - data.rfind(b"\n", 0, start) - 20) :].decode(likely, "replace").strip()
    return f"{problem}; if the line should read {shown(around)}, set --encoding {likely}, else the file's own encoding"
