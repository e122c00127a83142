"""Rows of random words for every kind of task, for exports without data: files can be compared, but not scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from ..identity import class_fingerprint
from ..models.labels import model_labels
from ..tasks import TASKS, Task, TaskArguments, load_task

_ROWS = 64
_LENGTHS = (1, 3, 8, 20, 50, 120, 300)
"""Tokens of the texts, in turn; the task cuts them to what it reads."""
_STRIDE, _ASKED = 16, 3
"""Tokens that two windows share, and words of a question: models that read little have to have room for a context."""
_SEED = 0
Texts = Iterator[str]


def generated(task: Task, kind: str, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Task:
    """A task of this kind with generated rows of every label of the model as `validation`.

    Args:
        task: whose settings, such as the length of rows, are kept.
        kind: one of `KINDS`.
    """
    settings = {name: getattr(task.arguments, name) for name in ("max_seq_length", "stride", "mlm_probability")}
    made = load_task(TaskArguments(task=kind, doc_stride=_STRIDE, **settings))
    labels = model_labels(config)
    made.offer_labels([labels])
    words = max(1, made.longest(tokenizer) // 4) if kind == "token_classification" else max(_LENGTHS)
    texts = _texts(tokenizer, words)
    rows = [KINDS[kind](texts, labels, number) for number in range(max(_ROWS, len(labels)))]
    return made.with_rows({"validation": made.normalise(Dataset.from_list(rows), "validation")})


def kind_of(task: Task) -> str | None:
    """The kind of a task, one of `KINDS`; None for a task of a kind of its own, as those of users may be."""
    if class_fingerprint(type(task)) is not None:
        return None
    classes: dict[str, Any] = {kind: TASKS[kind] for kind in KINDS}
    same = [kind for kind, of_kind in classes.items() if type(task) is of_kind]
    # Those of data sets, such as LAMBADA, may be subclasses.
    return next(iter(same or [kind for kind, of_kind in classes.items() if isinstance(task, of_kind)]), None)


def _texts(tokenizer: PreTrainedTokenizerBase, most: int) -> Texts:
    """Endless random texts of the tokenizer's own tokens, of `most` words at most."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    known = sorted({*tokenizer.get_vocab().values()} - special)
    generator = np.random.default_rng(_SEED)
    while True:
        for length in _LENGTHS:
            drawn = generator.choice(known, length).tolist()
            yield " ".join(tokenizer.decode(drawn).replace("\0", "").split()[:most]) or "a"


def _classes(texts: Texts, labels: list[str], number: int) -> dict[str, Any]:
    return {"text": next(texts), "label": labels[number % len(labels)]}


def _label_sets(texts: Texts, labels: list[str], number: int) -> dict[str, Any]:
    return {"text": next(texts), "labels": [labels[number % len(labels)]]}


def _scores(texts: Texts, labels: list[str], number: int) -> dict[str, Any]:
    return {"text": next(texts), "label": float(number % 5)}


def _tags(texts: Texts, labels: list[str], number: int) -> dict[str, Any]:
    words = next(texts).split()
    return {"tokens": words, "tags": [labels[(number + place) % len(labels)] for place in range(len(words))]}


def _questions(texts: Texts, labels: list[str], number: int) -> dict[str, Any]:
    context = next(texts)
    answers = {"text": [context.split()[0]], "answer_start": [0]}
    return {
        "id": str(number),
        "question": " ".join(next(texts).split()[:_ASKED]),
        "context": context,
        "answers": answers,
    }


def _running_text(texts: Texts, labels: list[str], number: int) -> dict[str, Any]:
    return {"text": next(texts)}


KINDS: dict[str, Callable[[Texts, list[str], int], dict[str, Any]]] = {
    "sequence_classification": _classes,
    "multi_label_classification": _label_sets,
    "regression": _scores,
    "token_classification": _tags,
    "question_answering": _questions,
    "causal_lm": _running_text,
    "masked_lm": _running_text,
}
