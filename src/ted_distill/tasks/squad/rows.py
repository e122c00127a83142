"""Rows of questions in one form, whatever the form of their file, and what may be wrong with them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow.compute as pc
from datasets import Dataset, Features, List, Value

from ...errors import InputError, raise_if_any, shown
from ...wording import counted
from ..reading.columns import is_text_like, missing_column, row_list, row_number, values
from ..reading.label_lists import parsed_list
from ..reading.mapped import mapped
from ..unlabelled import UNLABELLED

ROW_FEATURES = Features(
    {
        "id": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    }
)
"""Normalised rows. Empty lists: the question has no answer. `answers` None: unreadable, which is a problem."""

_IMPOSSIBLE = "is_impossible"
"""Column that says whether a question has no answer, as SQuAD 2.0 calls it."""
_TRUE, _FALSE = ("true", "1"), ("false", "0", "")
_PYTHON_ANSWERS = re.compile(
    r"""\{\s*['"]text['"]\s*:\s*(.*?)\s*,\s*['"]answer_start['"]\s*:\s*([^'"]*?)\s*\}""", re.DOTALL
)
_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)

_NAMED = 3
"""How many ids a message names."""


class QuestionColumns(NamedTuple):
    """Names of the columns in the data."""

    question: str = "question"
    context: str = "context"
    answers: str = "answers"


def normalise_rows(rows: Dataset, split: str, columns: QuestionColumns) -> Dataset:
    """The rows under `ROW_FEATURES`.

    Answers are a dict (or its JSON, or what Python and numpy write of it) of lists `text` and `answer_start`, a list of
    such pairs, or the two columns `answer_text` and `answer_start`; an empty text is no answer. A row where
    `is_impossible` is true has no answers, whatever else it holds. Without a column `id`, the row number, counted from
    0, is used.

    Raises:
        InputError: columns are missing or do not hold text, or `is_impossible` holds anything but true, false (or 1, 0)
            and null.
    """
    found = rows.column_names
    flat = columns.answers not in found and {"answer_text", "answer_start"} <= set(found)
    missing = [name for name in columns if name not in found and not (flat and name == columns.answers)]
    if missing:
        raise InputError(_missing_columns(missing, columns, found, split))
    raise_if_any(
        f"{split}: expected text in column {name!r}, got {shown(rows.features[name])}; name another column or fix it"
        for name in (columns.question, columns.context, "id")
        if name in found and not is_text_like(rows.features[name])
    )
    impossible = _IMPOSSIBLE in found
    if impossible:
        _require_truth(rows, split)
    renamed = {columns.question: "question", columns.context: "context", columns.answers: "answers", "id": "id"}
    if all(old == new for old, new in renamed.items()) and set(renamed) <= set(found) and not impossible:
        same = rows.select_columns(list(ROW_FEATURES))
        if same.features == ROW_FEATURES and not _has_empty_texts(same):
            return same
    return mapped(
        rows,
        standard_rows,
        description=f"{split}: rows",
        with_indices=True,
        features=ROW_FEATURES,
        columns=tuple(columns),
        flat=flat,
    )


def _has_empty_texts(rows: Dataset) -> bool:
    """Whether an answer of normalised rows is an empty text, which is none."""
    texts = pc.list_flatten(pc.struct_field(values(rows, "answers"), "text"))
    return bool(pc.any(pc.equal(texts, "")).as_py())


def standard_rows(batch: dict[str, Any], numbers: list[int], columns: Sequence[str], flat: bool) -> dict[str, Any]:
    """The map function of `normalise_rows`."""
    question, context, answers = columns
    if flat:
        pairs = zip(batch["answer_text"], batch["answer_start"], strict=True)
        found = [_pair_answers(text, start) for text, start in pairs]
    else:
        found = [_read_answers(value) for value in batch[answers]]
    if _IMPOSSIBLE in batch:
        is_so = [_plain_truth(value) in _TRUE for value in batch[_IMPOSSIBLE]]
        found = [_no_answers() if none else answer for none, answer in zip(is_so, found, strict=True)]
    return {
        "id": [_text(value) for value in batch.get("id", numbers)],
        "context": [_text(value) for value in batch[context]],
        "question": [_text(value) for value in batch[question]],
        "answers": found,
    }


def _require_truth(rows: Dataset, split: str) -> None:
    """Refuse other values of `is_impossible` than true and false, their names, 1 and 0, and none."""
    found = values(rows, _IMPOSSIBLE).to_pylist()
    if wrong := [number for number, value in enumerate(found) if _plain_truth(value) not in (*_TRUE, *_FALSE)]:
        raise InputError(
            f"{split}: expected true or false (or 1 or 0) in column {_IMPOSSIBLE!r}, got {shown(found[wrong[0]])} in "
            f"{row_list(wrong)}; fix them, or remove the column"
        )


def _plain_truth(value: Any) -> str:
    """A truth value in small letters, nothing for none; 1.0 as 1, as a column with empty fields has it."""
    if value is None:
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).lower()


def _missing_columns(missing: list[str], columns: QuestionColumns, found: list[str], split: str) -> list[str]:
    what_to_do = {
        columns.question: "rename one, or name it with --text_column",
        columns.context: "rename one, or name it with --text_pair_column",
        columns.answers: "give a file with it or with 'answer_text' and 'answer_start', or name it with --label_column",
    }
    return [missing_column(split, name, found, what_to_do[name]) for name in missing]


def _text(value: Any) -> str | None:
    return None if value is None or value != value else str(value)


def _pair_answers(text: Any, start: Any) -> dict[str, list[Any]] | None:
    # Only an empty field is "no answer": a space would be an answer that no token holds.
    if text is None or text == "" or text != text:
        return _no_answers()
    return _standard([text], [start])


def _no_answers() -> dict[str, list[Any]]:
    return {"text": [], "answer_start": []}


def _read_answers(value: Any) -> dict[str, list[Any]] | None:
    """Answers in any of the forms of `normalise_rows`; None for anything else."""
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, list):
        if not all(isinstance(answer, dict) for answer in value):
            return None
        value = {key: [answer.get(key) for answer in value] for key in ("text", "answer_start")}
    if not isinstance(value, dict):
        return None
    texts, starts = value.get("text"), value.get("answer_start")
    if isinstance(texts, str):
        texts, starts = [texts], [starts]
    return _standard(texts, starts)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        found = _PYTHON_ANSWERS.fullmatch(text.strip())
        return {"text": parsed_list(found[1]), "answer_start": parsed_list(found[2])} if found else None


def _standard(texts: Any, starts: Any) -> dict[str, list[Any]] | None:
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return None
    # Where a text is empty its place means nothing: it is written as 0, as -1 or not at all.
    filled = [(text, start) for text, start in zip(texts, starts, strict=True) if text != ""]
    texts, starts = [text for text, _ in filled], [start for _, start in filled]
    offsets = [_offset(start) for start in starts]
    if None in offsets or not all(isinstance(text, str | int | float) for text in texts):
        return None
    return {"text": [str(text) for text in texts], "answer_start": offsets}


def _offset(value: Any) -> int | None:
    """A whole number of 32 bits; None for any other value."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    whole = (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )
    return int(value) if whole and -(2**31) <= value < 2**31 else None


# --- problems -------------------------------------------------------------------------------------------------


def is_readable(answers: dict[str, Any] | None) -> bool:
    """Whether normalised `answers` are a list of texts and as many offsets."""
    if answers is None or answers["text"] is None or answers["answer_start"] is None:
        return False
    return len(answers["text"]) == len(answers["answer_start"]) and None not in answers["text"]


def row_problems(rows: Dataset, split: str) -> Iterator[str]:
    """What is wrong with normalised rows: one message for each kind of problem."""
    if len(rows) == 0:
        yield f"{split}: expected at least one question, got no rows; give a file with some"
        return
    ids, contexts, questions, answers = (rows[name][:] for name in ROW_FEATURES)
    if without := [number for number, id_ in enumerate(ids) if id_ is None]:
        yield f"{split}: expected an id in every row, got none in {row_list(without)}; add them or remove the column"
    named = [f"row {row_number(number)}" if id_ is None else shown(id_) for number, id_ in enumerate(ids)]
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1 and id_ is not None]
    # Predictions are kept by id; training does not use it.
    if repeated and split not in ("train", UNLABELLED):
        yield (
            f"{split}: expected a different id for every question, got {some(len(repeated), 'id', repeated)} more than "
            "once; give every question its own"
        )
    # A blank question is merely odd; a blank context has no token to answer with.
    blank = [None if context is None or not context.strip() else context for context in contexts]
    for column, texts in (("question", questions), ("context", blank)):
        empty = [name for name, text in zip(named, texts, strict=True) if text is None]
        if empty:
            yield (
                f"{split}: expected a {column} in every row, got none in {_counted(empty, 'row')}; fix or remove them"
            )
    for column, texts in (("question", questions), ("context", contexts)):
        if odd := [name for name, text in zip(named, texts, strict=True) if "\0" in (text or "")]:
            yield f"{split}: expected no NUL characters in a {column}, got some in {_counted(odd, 'row')}; remove them"
    unreadable = [name for name, answer in zip(named, answers, strict=True) if not is_readable(answer)]
    if unreadable:
        yield (
            f'{split}: expected answers {{"text": [...], "answer_start": [...]}}, in a csv file as JSON, with empty '
            f"lists for no answer, got none that can be read for {_counted(unreadable, 'question')}; fix or remove "
            "them (offsets are whole numbers; a file without answers cannot be trained or scored on)"
        )
    yield from _offset_problems(split, named, contexts, answers)


def some(number: int, what: str, ids: Sequence[str]) -> str:
    """Words such as "5 ids (first: 'a', 'b', 'c')"."""
    return f"{counted(number, what)} (first: {', '.join(map(shown, ids[:_NAMED]))})"


def _counted(named: Sequence[str], what: str) -> str:
    """The same for names that are quoted already."""
    return f"{counted(len(named), what)} (first: {', '.join(named[:_NAMED])})"


def _offset_problems(split: str, named: list[str], contexts: list[Any], answers: list[Any]) -> Iterator[str]:
    wrong = []
    for name, context, answer in zip(named, contexts, answers, strict=True):
        if context is None or not is_readable(answer):
            continue
        for text, start in zip(answer["text"], answer["answer_start"], strict=True):
            there = context[start : start + len(text)] if start >= 0 else ""
            if there != text or not text.strip():
                wrong.append(f"{name}: {shown(text)} at {start}, where the context has {shown(there)}")
    if wrong:
        yield (
            f"{split}: expected each answer in its context at answer_start, in characters from 0, got "
            f"{len(wrong)} that {'is' if len(wrong) == 1 else 'are'} not there (first: {'; '.join(wrong[:_NAMED])}); "
            "fix or remove these rows"
        )
