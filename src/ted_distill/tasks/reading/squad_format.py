"""The official SQuAD file, a JSON document of articles, paragraphs and questions -> flat rows."""

from __future__ import annotations

from typing import Any

from ...errors import InputError
from .columns import shown

Row = dict[str, Any]


def is_squad_document(document: Any) -> bool:
    """Whether a parsed JSON file is an official SQuAD document: `{"data": [{"paragraphs": [...]}, ...]}`."""
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        return False
    articles = document["data"]
    return bool(articles) and all(isinstance(article, dict) and "paragraphs" in article for article in articles)


def flatten_squad(document: dict[str, Any]) -> list[Row]:
    """One row per question: `id`, `title`, `context`, `question`, `answers` with lists `text` and `answer_start`.

    An unanswerable question (`is_impossible`, or an empty list of answers) has empty lists. A question without
    `answers` that is not marked impossible, as in test files, has `answers` None: they are unknown.

    Raises:
        InputError: a paragraph or question lacks a field.
    """
    rows: list[Row] = []
    for article in document["data"]:
        title = article.get("title") or ""
        for paragraph in article["paragraphs"]:
            if not isinstance(paragraph, dict) or not {"context", "qas"} <= paragraph.keys():
                raise InputError(
                    f"article {shown(title)}: expected 'context' and 'qas' in every paragraph, got one without; add "
                    "what is missing"
                )
            rows.extend(_row(title, paragraph["context"], question) for question in paragraph["qas"])
    return rows


def _row(title: str, context: str, question: dict[str, Any]) -> Row:
    missing = sorted({"id", "question"} - question.keys())
    if missing:
        raise InputError(
            f"article {shown(title)}: expected 'id' and 'question' in every question, got one without "
            f"{' and '.join(map(repr, missing))}; add what is missing"
        )
    return {
        "id": str(question["id"]),
        "title": title,
        "context": context,
        "question": question["question"],
        "answers": _answers(title, question),
    }


def _answers(title: str, question: dict[str, Any]) -> dict[str, list[Any]] | None:
    # `is_impossible` comes first: such questions carry `plausible_answers`, and some files repeat those as answers.
    if question.get("is_impossible"):
        return {"text": [], "answer_start": []}
    answers = question.get("answers")
    if answers is None:
        return None
    try:
        return {
            "text": [answer["text"] for answer in answers],
            "answer_start": [int(answer["answer_start"]) for answer in answers],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"article {shown(title)}: expected answers "
            f'{{"text": ..., "answer_start": ...}}, got {shown(answers)} for question {question["id"]!r}; fix them'
        ) from error
