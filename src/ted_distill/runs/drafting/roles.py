"""Which column of a data file holds the text, which the second text of a pair, and which the labels.

Columns with the names that the readers know are taken as the readers take them. Others are taken where only one is
possible: the only text, the only classes, or the only one of several with a name that says so. Otherwise the user is
asked, in one line, with the candidates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ...errors import InputError
from ...tasks.reading.columns import USUAL_LABELS, USUAL_PAIRS, USUAL_TEXTS
from ...tasks.reading.soft_labels import matching
from ...tasks.task_arguments import TaskArguments
from ...wording import listed
from .columns import ANSWERS, CLASSES, LISTS, NUMBERS, TEXT, WHOLE, Column

_OF_A_TITLE = 2
"""Words of a value, on average, from which on a column of few different ones may be a title."""
_SAYS_TEXT = {
    "text", "texts", "sentence", "review", "content", "body", "message", "msg", "ticket", "comment", "tweet", "post",
    "utterance", "query", "document", "article", "description", "input", "inputs", "question", "headline", "transcript",
    "email", "mail", "request", "complaint", "feedback", "snippet", "passage", "paragraph", "note", "prompt",
}  # fmt: skip
_SAYS_LABEL = {
    "label", "labels", "class", "classes", "category", "categories", "target", "targets", "y", "sentiment", "intent",
    "topic", "topics", "score", "scores", "rating", "stars", "emotion", "emotions", "tag", "tags", "gold",
    "polarity", "stance", "toxicity", "similarity", "grade", "relevance", "genre", "genres",
}  # fmt: skip
_SAYS_MORE = {"category", "categories", "genre", "genres", "topic", "topics", "grade", "stars"}
"""Those that may as well say where a text is from, as in STS-B, whose label is `score`."""
_HALVES = {"question", "query", "sentence1", "premise", "claim", "text_a", "text1"}
"""Names of texts that are the first of two."""
_SPLITS = {"train", "training", "dev", "devel", "val", "valid", "validation", "eval", "test", "testing"}
_LISTED_LABELS = re.compile(r"labels?|tags?|.*_ids?")
_MOST_CLASSES = 1000
"""Unless the name of a column says that it holds classes."""
_WORD = re.compile(r"[^a-z]+")


INFERRED = ("the only column that may be a label", "of the columns that may be labels, the one whose name says so")
"""Why a column is taken for the label that has no usual name for one."""


class Found(NamedTuple):
    """Columns, as the keys of a task name them, and why these."""

    columns: dict[str, str]
    """`text_column`, `text_pair_column` and `label_column`, those that there are."""
    why: dict[str, str]
    """The same keys -> the reason."""


def _say_name(column: Column, names: set[str]) -> bool:
    parts = [part for part in _WORD.split(column.name.lower()) if part]
    return column.name.lower() in names or bool(names & {*parts})


def refuse_mixed_splits(columns: Mapping[str, Column], arguments: TaskArguments) -> None:
    """Refuse a file whose rows are of several splits, as a column says: test rows would be trained on.

    Raises:
        InputError: names the column and what is in it.
    """
    for column in columns.values():
        splits = {str(value).strip().casefold() for value in column.examples}
        mixed = column.distinct == len(column.examples) and len(splits) > 1 and splits <= _SPLITS
        if column.kind == CLASSES and mixed and column.name != arguments.label_column:
            raise InputError(
                f"train_file: expected rows to train on alone, got a column {column.name!r} with "
                f"{', '.join(sorted(splits))}; write the rows of each into a file of its own: train_file, "
                "validation_file, test_file"
            )


# --- answers and tags -----------------------------------------------------------------------------------------------


def answer_columns(columns: Mapping[str, Column], arguments: TaskArguments) -> Found | None:
    """Question, context and answers; None if there are no answers.

    Raises:
        InputError: there are answers, but which columns hold questions and contexts cannot be told.
    """
    flat = {"answer_text", "answer_start"} <= set(columns)
    holders = [name for name, column in columns.items() if column.kind == ANSWERS]
    named = arguments.label_column or "answers"
    if not flat and len(holders) != 1 and named not in holders:
        return None
    answers = arguments.label_column or ("answers" if flat or "answers" in holders else holders[0])
    question, context = arguments.text_column or "question", arguments.text_pair_column or "context"
    if question not in columns or context not in columns:
        texts = [column for column in columns.values() if column.kind in (TEXT, CLASSES) and column.name != answers]
        texts = [column for column in texts if column.name != "answer_text"]
        if len(texts) != 2:
            raise InputError(
                f"text_column: expected one column of questions and one of contexts, got {_named(texts, columns)}; "
                "give text_column=QUESTIONS and text_pair_column=CONTEXTS"
            )
        question, context = (column.name for column in sorted(texts, key=lambda column: column.words))
    why = {"text_column": "the questions", "text_pair_column": "the passages that hold the answers",
           "label_column": "the answers, with the places where they begin"}  # fmt: skip
    found = {"text_column": question, "text_pair_column": context, "label_column": answers}
    if answers not in columns:
        del found["label_column"]  # they are in two columns, which the reader knows
    return Found(found, {key: why[key] for key in found})


def tag_columns(columns: Mapping[str, Column], arguments: TaskArguments) -> Found | None:
    """Words and their tags: two columns of lists that are as long as each other; None if there are none.

    Raises:
        InputError: there are several columns that may hold the tags.
    """
    lists = {name: column for name, column in columns.items() if column.kind == LISTS}
    if {"FORM", "UPOS"} <= set(columns):  # which the reader knows
        return Found({}, {})
    words = arguments.text_column or ("tokens" if "tokens" in lists else None)
    if words is None:
        of_text = [
            column for column in lists.values()
            if _holds_text(column) and column.words >= 2 and not _LISTED_LABELS.fullmatch(column.name.lower())
        ]  # fmt: skip
        named = [column for column in of_text if column.name.lower() in ("words", "word", "text", "sentence", "form")]
        has_text = any(column.kind == TEXT for column in columns.values())
        words = next((column.name for column in named or (() if has_text else of_text)), None)
    if words is None or words not in lists:
        return None
    tags = [name for name, column in lists.items() if name != words and _as_long(column, lists[words])]
    usual = [name for name in ("ner_tags", "tags", "labels") if name in tags]
    label = arguments.label_column or (usual[0] if usual else tags[0] if len(tags) == 1 else None)
    if label is None and tags:
        raise InputError(
            f"label_column: expected one column of lists as long as those of {words!r}, got {listed(tags)}; give "
            f"label_column={' or '.join(tags[:3])}"
        )
    if label is None:
        return None
    return Found(
        {"text_column": words, "label_column": label},
        {"text_column": "lists of words", "label_column": f"lists as long as those of {words!r}: a tag for each word"},
    )


def _holds_text(column: Column) -> bool:
    return all(isinstance(item, str) for row in column.examples for item in row or ())


def _as_long(tags: Column, words: Column) -> bool:
    pairs = list(zip(tags.examples, words.examples, strict=False))
    return bool(pairs) and all(len(a or ()) == len(b or ()) for a, b in pairs)


# --- texts and labels -----------------------------------------------------------------------------------------------


def text_columns(columns: Mapping[str, Column], arguments: TaskArguments, label: str | None) -> Found:
    """The column of the text, and that of the second one if there are pairs.

    Raises:
        InputError: no column holds text, or several may.
    """
    given = {key: name for key in ("text_column", "text_pair_column") if (name := getattr(arguments, key))}
    if "text_column" in given:
        return Found(given, dict.fromkeys(given, "as given"))
    rest = {name: column for name, column in columns.items() if name not in (label, arguments.text_pair_column)}
    pairs = [pair for pair in USUAL_PAIRS if set(pair) <= set(rest)]
    if len(pairs) == 1 and "text_pair_column" not in given:
        first, second = pairs[0]
        why = f"the columns {first!r} and {second!r} are a pair of texts"
        return Found({"text_column": first, "text_pair_column": second}, {"text_column": why, "text_pair_column": why})
    usual = [name for name in USUAL_TEXTS if name in rest and rest[name].kind in (TEXT, CLASSES)]
    if len(usual) == 1 and not pairs:
        _refuse_half(usual[0], rest, given)
        why = "a usual name for the text" + _titles(rest, usual[0], given)
        return Found({"text_column": usual[0], **given}, {"text_column": why})
    texts = [column for column in rest.values() if column.kind == TEXT]
    if not texts:
        texts = [column for column in rest.values() if column.kind == CLASSES and _say_name(column, _SAYS_TEXT)]
    chosen, why = _only(
        texts, _SAYS_TEXT, "the only column of text", "of the columns of text, the one whose name says so"
    )
    if chosen is None:
        raise InputError(_ask("text", texts, columns, "; for pairs of texts also text_pair_column=THE OTHER"))
    _refuse_half(chosen.name, rest, given)
    return Found({"text_column": chosen.name, **given}, {"text_column": why + _titles(rest, chosen.name, given)})


def _titles(rest: Mapping[str, Column], text: str, given: Mapping[str, str]) -> str:
    """What a reason says of a subject or title that is left out: few are different, so that they look like classes."""
    also = [
        column.name
        for column in rest.values()
        if column.kind == CLASSES and column.words >= _OF_A_TITLE and column.name != text
    ]
    if not also or "text_pair_column" in given:
        return ""
    return f"; text_pair_column={also[0]} would add the words of {also[0]!r}"


def _refuse_half(name: str, rest: Mapping[str, Column], given: Mapping[str, str]) -> None:
    """Ask for the second text where the first is one of two by its name, and others are there."""
    others = [column.name for column in rest.values() if column.kind == TEXT and column.name != name]
    if name.lower() in _HALVES and others and "text_pair_column" not in given:
        raise InputError(
            f"text_pair_column: expected the text that belongs to {name!r}, got columns {listed(others, 6)}; give "
            f"text_column={name} and text_pair_column={' or '.join(others[:4])}, or text_column={name} alone"
        )


def label_columns(columns: Mapping[str, Column], arguments: TaskArguments) -> Found | None:
    """The column of the labels, several that are zeros and ones, or a pattern of probabilities; None if there is none.

    Raises:
        InputError: several columns may hold the labels.
    """
    if arguments.label_column:
        return Found({"label_column": arguments.label_column}, {"label_column": "as given"})
    taken = {
        arguments.text_column,
        arguments.text_pair_column,
        *USUAL_TEXTS,
        *(name for pair in USUAL_PAIRS for name in pair),
    }
    rest = {name: column for name, column in columns.items() if name not in taken}
    usual = [name for name in USUAL_LABELS if name in rest]
    if len(usual) == 1:
        _refuse_score_beside_label(usual[0], rest)
        return Found({"label_column": usual[0]}, {"label_column": "a usual name for the label"})
    if pattern := _probabilities(rest):
        return Found({"label_column": pattern}, {"label_column": "columns with the probability of each class"})
    possible = [column for column in rest.values() if _may_be_label(column)]
    # The number of a class beside its name says nothing more.
    others = {column.name.lower() for column in possible}
    possible = [c for c in possible if not (c.name.lower().endswith("_id") and c.name.lower()[:-3] in others)]
    flags = [column for column in possible if column.is_flag]
    if len(flags) > 2 and not any(_say_name(column, _SAYS_LABEL) for column in possible):
        names = ",".join(column.name for column in flags)
        return Found({"label_column": names}, {"label_column": f"{len(flags)} columns of zeros and ones, one a label"})
    if not possible:
        return None
    chosen, why = _only(possible, _SAYS_LABEL, *INFERRED)
    if chosen is None:
        more = f"; for several labels a row {','.join(c.name for c in flags)}" if len(flags) == len(possible) else ""
        raise InputError(_ask("label", possible, columns, more))
    return Found({"label_column": chosen.name}, {"label_column": why})


def _refuse_score_beside_label(usual: str, rest: Mapping[str, Column]) -> None:
    """Ask where `score`, which may be how sure someone is of a label, stands beside another name of labels."""
    others = [
        column
        for name, column in rest.items()
        if name != usual and _say_name(column, _SAYS_LABEL - _SAYS_MORE) and _may_be_label(column)
    ]
    if usual == "score" and others:
        raise InputError(_ask("label", [rest[usual], *others], rest, ""))


def _may_be_label(column: Column) -> bool:
    if column.kind == LISTS:
        return column.words < 20 and len({str(row) for row in column.examples}) > 1
    most = column.filled if _say_name(column, _SAYS_LABEL) else _MOST_CLASSES
    return column.kind == NUMBERS or (column.kind in (CLASSES, WHOLE) and 1 < column.distinct <= most)


def _probabilities(columns: Mapping[str, Column]) -> str | None:
    """A pattern such as `probs_*` that several columns fit whose numbers are from 0 to 1."""
    shares = [
        name for name, column in columns.items()
        if column.kind in (NUMBERS, WHOLE) and all(0 <= value <= 1 for value in column.examples)
    ]  # fmt: skip
    for start in ("probs_", "prob_", "p_"):
        if len(matching(f"{start}*", shares)) > 1:
            return f"{start}*"
    return None


def _only(columns: list[Column], names: set[str], one: str, of_several: str) -> tuple[Column | None, str]:
    """The only column, or the only one of several whose name says what it holds, and which of the two it is."""
    if len(columns) == 1:
        return columns[0], one
    named = [column for column in columns if _say_name(column, names)]
    return (named[0], of_several) if len(named) == 1 else (None, "")


def _ask(role: str, candidates: list[Column], columns: Mapping[str, Column], more: str) -> str:
    """The question which column holds the text or the labels."""
    if not candidates:
        return f"{role}_column: expected a column of {role}s, got {_named([], columns)}; give {role}_column=NAME"
    choices = " or ".join(column.name for column in candidates[:4])
    return (
        f"{role}_column: expected one column of {role}s, got {_named(candidates)}; give {role}_column={choices}{more}"
    )


def _named(candidates: list[Column], columns: Mapping[str, Column] | None = None) -> str:
    if candidates:
        return listed([column.name for column in candidates], 6)
    return f"none (columns: {listed(columns or {}, 10)})"
