"""Which task a file and a teacher are for, and why; or the question that has to be answered first."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from datasets import Dataset

from ...errors import InputError
from ...models.labels import has_default_labels, model_labels
from ...tasks.reading.label_lists import SEPARATORS, blank_between_numbers
from ...tasks.reading.labels import label_values
from ...tasks.reading.soft_labels import is_pattern
from ...tasks.reading.word_rows import refuse_words_with_entities
from ...tasks.task_arguments import TaskArguments
from ...wording import counted, listed
from .columns import CLASSES, LISTS, NUMBERS, OTHER, SAYS_CLASS, WHOLE, Column
from .roles import INFERRED, Found, answer_columns, label_columns, tag_columns, text_columns
from .teacher_facts import SEQUENCE, TeacherFacts

CLASSIFICATION, SEVERAL, SCORES = "sequence_classification", "multi_label_classification", "regression"
_OF_SEQUENCES = (CLASSIFICATION, SEVERAL, SCORES)
_OF_TEXT = ("causal_lm", "masked_lm")
_SURELY_CLASSES, _SURELY_SCORES = 10, 50
"""Up to this number of different whole numbers they are classes; above the second number they are scores."""
_WRITTEN_NUMBER = re.compile(r"[-+]?\d+,\d+\s*%?|[-+]?\d+([.,]\d+)?\s*%")
"""A number as people write it and programs do not read it: with a decimal comma, or in percent."""
_SAYS_SCORE = re.compile(r"(.*[_ -])?(score|scores|similarity|relevance|rating|grade|price|age)")


class Guess(NamedTuple):
    """A task, its columns, and why."""

    task: str
    why: str
    found: Found


def guess_task(
    rows: Dataset,
    columns: Mapping[str, Column],
    arguments: TaskArguments,
    teacher: TeacherFacts,
    tagged: bool = False,
    is_text: bool = False,
) -> Guess:
    """The task that is given or that fits, and the columns that it reads.

    Args:
        arguments: as given; what is named there is not guessed.
        tagged: the file has words and tags by its form, as CoNLL files do.
        is_text: it is running text by its form, a txt file.

    Raises:
        InputError: which task, or which column, cannot be told; says what to give.
    """
    task = arguments.task
    if task is not None and task not in (*_OF_SEQUENCES, "question_answering", "token_classification", *_OF_TEXT):
        return Guess(task, "as given", Found({}, {}))  # a data set with its own columns
    if tagged and task in (None, "token_classification"):
        return Guess(
            "token_classification", (task and "as given") or "the file has words and their tags", Found({}, {})
        )
    if task in (None, "question_answering") and (found := answer_columns(columns, arguments)):
        return Guess("question_answering", (task and "as given") or "the rows have answers and where they begin", found)
    if task in (None, "token_classification"):
        if found := tag_columns(columns, arguments):
            return Guess("token_classification", (task and "as given") or "the rows have a tag for each word", found)
        if not is_text:
            refuse_words_with_entities(rows, "train_file")
    if task in (*_OF_TEXT, "question_answering", "token_classification"):
        found = text_columns(columns, arguments, None) if task in _OF_TEXT else Found({}, {})
        return Guess(str(task), "as given", found)
    labels = None if is_text and task is None else label_columns(columns, arguments)
    if labels is None:
        return _text(columns, arguments, teacher, is_text)
    label = labels.columns["label_column"]
    if task is None and teacher.text_task == "causal_lm" and labels.why["label_column"] in INFERRED:
        raise InputError(
            f"task: expected to be told what {teacher.name} is for, {_a(teacher.architecture)}, as column {label!r} "
            f"may be a label, got nothing; give task=causal_lm for the text alone, or label_column={label}"
        )
    texts = text_columns(columns, arguments, label)
    found = Found({**texts.columns, **labels.columns}, {**texts.why, **labels.why})
    kind, why = (task, "as given") if task else _by_labels(rows, columns, label, arguments, teacher)
    return Guess(kind, why, found)


def _text(columns: Mapping[str, Column], arguments: TaskArguments, teacher: TeacherFacts, is_text: bool) -> Guess:
    """Language modelling, of text without labels. Raises `InputError` where labels were to be expected."""
    if arguments.task:
        raise InputError(
            f"label_column: expected a column with labels for task {arguments.task}, got columns "
            f"{listed(columns, 10)}; give label_column=NAME"
        )
    task = teacher.text_task or (teacher.text_task_of_family if is_text else None)
    if task is None:
        raise InputError(
            f"task: expected a column with labels, as {teacher.name} is not a language model ({teacher.architecture}), "
            f"got columns {listed(columns, 10)}; give label_column=NAME, or for text alone task=causal_lm or masked_lm"
        )
    found = text_columns(columns, arguments, None)
    if "text_pair_column" in found.columns:
        found = text_columns(columns, replace(arguments, text_column=found.columns["text_column"]), None)
    text = found.columns["text_column"]
    others = [c.name for c in columns.values() if c.name != text and c.kind != OTHER and c.distinct != 1]
    if others and not (is_text or arguments.text_column):
        raise InputError(
            f"label_column: expected a column that is surely a label, or text alone, got columns {listed(others, 10)} "
            f"with {text!r}; give label_column=NAME, or for text alone task={task}"
        )
    return Guess(task, f"text without labels, and the teacher is {_a(teacher.architecture)}", found)


def _by_labels(
    rows: Dataset, columns: Mapping[str, Column], label: str, arguments: TaskArguments, teacher: TeacherFacts
) -> tuple[str, str]:
    """The task that labels are for, and why. Raises `InputError` where whole numbers may be classes or scores."""
    if is_pattern(label, list(columns)):
        return CLASSIFICATION, "each class has a column with its probability"
    if label not in columns:
        return SEVERAL, "each label has a column of zeros and ones"
    column = columns[label]
    if column.kind == LISTS:
        return SEVERAL, f"{label!r} holds lists of labels"
    if column.kind == NUMBERS:
        return SCORES, f"{label!r} holds numbers with fractions, such as {column.examples[0]}"
    if column.kind == WHOLE or (column.kind == OTHER and column.examples and isinstance(column.examples[0], int)):
        return _whole(column, teacher)
    if numbers := _written_numbers(rows, label):
        if not all(number.is_integer() for number in numbers):
            return SCORES, f"{label!r} holds numbers with fractions, such as {column.examples[0]}"
        if column.distinct > _SURELY_CLASSES:
            return _whole(column, teacher)
    if all(isinstance(value, str) and _WRITTEN_NUMBER.fullmatch(value.strip()) for value in column.examples):
        raise InputError(
            f"label_column: expected names, or numbers such as 4.6, in column {label!r}, got "
            f"{listed(map(repr, column.examples), 3)}; write numbers with a point and without a sign for percent"
        )
    if separator := _separator(rows, label, arguments.label_separator):
        return SEVERAL, f"{label!r} holds several labels in one field, with {separator} between them"
    if column.kind == CLASSES:
        examples = sorted(map(str, column.examples))
        named = f": {listed(examples)}" if column.distinct == len(examples) else f", such as {listed(examples, 3)}"
        return CLASSIFICATION, f"{label!r} holds {column.distinct} names{named}"
    return CLASSIFICATION, f"{label!r} is the label"


def _written_numbers(rows: Dataset, label: str) -> list[float]:
    """The numbers of a column of text that holds nothing else; none of any other column."""
    fields = [value for value in label_values(rows, label) if value is not None]
    try:
        numbers = [float(value) for value in fields if isinstance(value, str)]
    except ValueError:
        return []
    return numbers if len(numbers) == len(fields) and all(map(math.isfinite, numbers)) else []


def _whole(column: Column, teacher: TeacherFacts) -> tuple[str, str]:
    what = f"{column.name!r} holds {column.distinct} different whole numbers"
    if teacher.head == SEQUENCE and _is_regressor(teacher):
        return SCORES, f"{what}, and the teacher has a head for a score"
    if teacher.head == SEQUENCE and teacher.config.num_labels == column.distinct and column.distinct > 2:
        return CLASSIFICATION, f"{what}, as many as the teacher has labels"
    if column.distinct <= _SURELY_CLASSES:
        return CLASSIFICATION, f"{what} (if they are scores: task=regression)"
    if 2 * column.distinct > column.filled:
        return SCORES, f"{what} in {column.filled} rows (if they are classes: task=sequence_classification)"
    name = column.name.strip().lower()
    if SAYS_CLASS.fullmatch(name):
        return CLASSIFICATION, f"{what}, and its name says classes (if they are scores: task=regression)"
    if column.distinct >= _SURELY_SCORES or _SAYS_SCORE.fullmatch(name):
        return SCORES, f"{what} (if they are classes: task=sequence_classification)"
    raise InputError(
        f"task: expected labels that can only be classes or only scores, got {column.distinct} different whole numbers "
        f"in column {column.name!r}; give task=sequence_classification or task=regression"
    )


def _is_regressor(teacher: TeacherFacts) -> bool:
    config = teacher.config
    return config.problem_type == "regression" or (config.problem_type is None and config.num_labels == 1)


def _separator(rows: Dataset, label: str, given: str | None) -> str | None:
    """What is between the labels of a field, if fields are put together of names that are fields as well."""
    fields = [value for value in label_values(rows, label) if isinstance(value, str) and value.strip()]
    if not given and blank_between_numbers(fields):
        return "blanks"
    for separator in [given] if given else SEPARATORS:
        several = [field for field in fields if separator in field]
        if len(several) < 0.05 * len(fields) or not several:
            continue
        parts = {part.strip() for field in fields for part in field.split(separator)}
        # Names with a comma in them have parts that occur nowhere else.
        if given or separator == "|" or len(parts) < len({*fields}):
            return separator
    return None


def _a(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"


def describe_head(teacher: TeacherFacts) -> str:
    """The teacher's head and its labels, in words."""
    if teacher.head is None:
        return f"a backbone without a head ({teacher.architecture})"
    if teacher.head == SEQUENCE or teacher.architecture.endswith("ForTokenClassification"):
        labels = model_labels(teacher.config)
        named = "unnamed" if has_default_labels(teacher.config) else listed(labels, 5)
        return f"{_a(teacher.architecture)} with {counted(len(labels), 'label')} ({named})"
    return _a(teacher.architecture)
