"""The official SQuAD file, a JSON document of articles, paragraphs and questions -> flat rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import InputError, shown

Row = dict[str, Any]


def is_squad_document(document: Any) -> bool:
    """Whether a parsed JSON file is an official SQuAD document: `{"data": [{"paragraphs": ...}, ...]}`."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        return False
    return any(isinstance(article, dict) and "paragraphs" in article for article in document["data"])


def flatten_squad(document: dict[str, Any]) -> list[Row]:
    """One row per question: `id`, `title`, `context`, `question`, `answers` with lists `text` and `answer_start`.

    An unanswerable question (`is_impossible`, or an empty list of answers) has empty lists. A question without
    `answers` that is not marked impossible, as in test files, has `answers` None: they are unknown.

    Raises:
        InputError: a part is missing or of another kind; names its place.
    """
    rows: list[Row] = []
    for number, article in enumerate(document["data"], start=1):
        title = article.get("title") if isinstance(article, dict) else None
        title = title if isinstance(title, str) else ""
        place = f"article {number}" + (f" ({shown(title)})" if title else "")
        for of_article, paragraph in enumerate(_part(article, "paragraphs", list, place), start=1):
            rows += _paragraph_rows(paragraph, title, f"{place}, paragraph {of_article}")
    return rows


def _paragraph_rows(paragraph: Any, title: str, place: str) -> Iterator[Row]:
    context = _part(paragraph, "context", str, place)
    for number, question in enumerate(_part(paragraph, "qas", list, place), start=1):
        where = f"{place}, question {number}"
        yield {
            "id": str(_part(question, "id", (str, int), where)),
            "title": title,
            "context": context,
            "question": _part(question, "question", str, where),
            "answers": _answers(question, where),
        }


def _answers(question: dict[str, Any], place: str) -> dict[str, list[Any]] | None:
    # `is_impossible` comes first: such questions carry `plausible_answers`, and some files repeat those as answers.
    impossible = question.get("is_impossible")
    if not isinstance(impossible, bool | None):
        raise InputError(f"{place}: expected true or false as 'is_impossible', got {shown(impossible)}; fix it")
    if impossible:
        return {"text": [], "answer_start": []}
    if question.get("answers") is None:
        return None
    answers = _part(question, "answers", list, place)
    found: dict[str, list[Any]] = {"text": [], "answer_start": []}
    for number, answer in enumerate(answers, start=1):
        where = f"{place}, answer {number}"
        start = _part(answer, "answer_start", int, where)
        if not -1 <= start < 2**31:
            raise InputError(f"{where}: expected answer_start within the context, got {shown(start)}; fix it")
        found["text"].append(_part(answer, "text", str, where))
        found["answer_start"].append(start)
    return found


_KINDS: dict[Any, str] = {str: "text", int: "a whole number", list: "a list", (str, int): "text or a number"}


def _part(whole: Any, name: str, kind: Any, place: str) -> Any:
    """A part of the document, of the kind it should be."""
    if not isinstance(whole, dict):
        raise InputError(f"{place}: expected a record with {name!r}, got {shown(whole)}; fix it")
    if name not in whole:
        raise InputError(f"{place}: expected {name!r}, got only {shown(', '.join(map(str, whole)))}; add it")
    value = whole[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{place}: expected {_KINDS[kind]} as {name!r}, got {shown(value)}; fix it")
    return value
