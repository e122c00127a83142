"""Rows of questions in one form, whatever file they came in, and what may be wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from datasets import Dataset, Features, List, Value

from ...errors import InputError
from ..reading.columns import row_list

ROW_FEATURES = Features(
    {
        "id": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    }
)
"""Normalised rows. Empty lists: the question has no answer. `answers` None: none could be read, a problem."""

_NAMED = 3
_QUOTED = 40


class Columns(NamedTuple):
    """Names of the columns as they come."""

    question: str = "question"
    context: str = "context"
    answers: str = "answers"


def normalise_rows(rows: Dataset, split: str, columns: Columns) -> Dataset:
    """The rows under `ROW_FEATURES`.

    Answers come as a dict (or its JSON) of lists `text` and `answer_start`, as a list of such pairs, or as the two
    columns `answer_text` (empty: no answer) and `answer_start`. Rows without an `id` column get their row number,
    counted from 0.

    Raises:
        InputError: columns are missing.
    """
    found = rows.column_names
    flat = columns.answers not in found and {"answer_text", "answer_start"} <= set(found)
    missing = [name for name in columns if name not in found and not (flat and name == columns.answers)]
    if missing:
        raise InputError(_missing_columns(missing, columns, found, split))
    renamed = {columns.question: "question", columns.context: "context", columns.answers: "answers", "id": "id"}
    if all(old == new for old, new in renamed.items()) and set(renamed) <= set(found):
        same = rows.select_columns(list(ROW_FEATURES))
        if same.features == ROW_FEATURES:
            return same
    return rows.map(
        standard_rows,
        batched=True,
        with_indices=True,
        fn_kwargs={"columns": tuple(columns), "flat": flat},
        remove_columns=found,
        features=ROW_FEATURES,
        desc=f"{split}: rows",
    )


def standard_rows(batch: dict[str, Any], numbers: list[int], columns: Sequence[str], flat: bool) -> dict[str, Any]:
    """The map function of `normalise_rows`."""
    question, context, answers = columns
    if flat:
        pairs = zip(batch["answer_text"], batch["answer_start"], strict=True)
        found = [_pair_answers(text, start) for text, start in pairs]
    else:
        found = [_read_answers(value) for value in batch[answers]]
    return {
        "id": [_text(value) for value in batch.get("id", numbers)],
        "context": [_text(value) for value in batch[context]],
        "question": [_text(value) for value in batch[question]],
        "answers": found,
    }


def _missing_columns(missing: list[str], columns: Columns, found: list[str], split: str) -> list[str]:
    what_to_do = {
        columns.question: "rename one, or name it with --text_column",
        columns.context: "rename one, or name it with --text_pair_column",
        columns.answers: "give a file with it or with 'answer_text' and 'answer_start', or name it with --label_column",
    }
    return [
        f"{split}: column {name!r} is missing (columns are: {', '.join(found)}); {what_to_do[name]}" for name in missing
    ]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _pair_answers(text: Any, start: Any) -> dict[str, list[Any]] | None:
    # Only nothing at all is "no answer": a blank would be an answer that no token holds.
    if text is None or text == "":
        return {"text": [], "answer_start": []}
    return _standard([text], [start])


def _read_answers(value: Any) -> dict[str, list[Any]] | None:
    """Answers in any of the forms of `normalise_rows`; None if it is none of them."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            return None
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


def _standard(texts: Any, starts: Any) -> dict[str, list[Any]] | None:
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        return None
    try:
        return {"text": [str(text) for text in texts if text is not None], "answer_start": list(map(int, starts))}
    except (TypeError, ValueError, OverflowError):
        return None


# --- problems -------------------------------------------------------------------------------------------------


def is_readable(answers: dict[str, Any] | None) -> bool:
    """Whether normalised `answers` say something: a list of texts and as many offsets."""
    if answers is None or answers["text"] is None or answers["answer_start"] is None:
        return False
    return len(answers["text"]) == len(answers["answer_start"]) and None not in answers["text"]


def row_problems(rows: Dataset, split: str) -> Iterator[str]:
    """What is wrong with normalised rows, each kind in one sentence."""
    if len(rows) == 0:
        yield f"{split}: there are no rows; give a file with at least one question"
        return
    ids, contexts, questions, answers = (rows[name][:] for name in ROW_FEATURES)
    if without := [number for number, id_ in enumerate(ids) if id_ is None]:
        yield f"{split}: no id in {row_list(without)}; give each one, or leave out the column"
    named = [f"row {number + 1}" if id_ is None else repr(id_) for number, id_ in enumerate(ids)]
    repeated = [id_ for id_, count in Counter(ids).items() if count > 1 and id_ is not None]
    # Predictions are kept by id; training looks at none.
    if repeated and split != "train":
        yield f"{split}: {some(len(repeated), 'id', repeated)} more than once; give every question an id of its own"
    # A blank question is only odd; a blank context has no token to answer with.
    blank = [None if context is None or not context.strip() else context for context in contexts]
    for column, values in (("question", questions), ("context", blank)):
        empty = [name for name, text in zip(named, values, strict=True) if text is None]
        if empty:
            yield f"{split}: no {column} in {len(empty)} rows (first: {', '.join(empty[:_NAMED])}); mend or drop them"
    unreadable = [name for name, answer in zip(named, answers, strict=True) if not is_readable(answer)]
    if unreadable:
        yield (
            f"{split}: {len(unreadable)} questions have no answers that can be read (first: "
            f'{", ".join(unreadable[:_NAMED])}); expected {{"text": [...], "answer_start": [...]}}, in a csv file '
            "as JSON, with empty lists where there is no answer; files without answers cannot be trained or scored on"
        )
    yield from _offset_problems(split, named, contexts, answers)


def some(number: int, what: str, ids: Sequence[str]) -> str:
    """Words such as "5 ids (first: 'a', 'b', 'c')"."""
    return f"{number} {what}{'' if number == 1 else 's'} (first: {', '.join(map(repr, ids[:_NAMED]))})"


def _offset_problems(split: str, named: list[str], contexts: list[Any], answers: list[Any]) -> Iterator[str]:
    wrong = []
    for name, context, answer in zip(named, contexts, answers, strict=True):
        if context is None or not is_readable(answer):
            continue
        for text, start in zip(answer["text"], answer["answer_start"], strict=True):
            there = context[start : start + len(text)] if start >= 0 else ""
            if there != text or not text.strip():
                wrong.append(f"{name}: {_quoted(text)} at {start}, where {_quoted(there)} stands")
    if wrong:
        yield (
            f"{split}: {len(wrong)} answers do not stand in their context at their answer_start "
            f"(first: {'; '.join(wrong[:_NAMED])}); offsets are characters from 0: mend or drop these rows"
        )


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "...")
