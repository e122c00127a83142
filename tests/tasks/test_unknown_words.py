"""Texts of whose words a tokenizer knows none: to a model they are all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ted_distill import InputError, Task, TaskArguments, load_task
from ted_distill.tasks.tokenizers import unknown_share
from tiny import tiny_tokenizer

_TEXT = "ሰላም ለዓለም ደህና"
_ROWS: dict[str, list[dict[str, Any]]] = {
    "sequence_classification": [{"text": _TEXT, "label": label} for label in ("a", "b")],
    "multi_label_classification": [{"text": _TEXT, "label": labels} for labels in (["a"], ["a", "b"])],
    "regression": [{"text": _TEXT, "label": score} for score in (0.5, 0.7)],
    "token_classification": [{"tokens": _TEXT.split(), "tags": ["O", "B-x", "O"]}],
    "question_answering": [
        {"id": "1", "question": _TEXT, "context": _TEXT, "answers": {"text": ["ለዓለም"], "answer_start": [4]}},
    ],
    "causal_lm": [{"text": _TEXT}],
    "masked_lm": [{"text": _TEXT}],
}


def task_of(name: str, rows: list[dict[str, Any]], folder: Path) -> Task:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return load_task(TaskArguments(name, train_file=str(file), doc_stride=8))


@pytest.mark.parametrize("name", _ROWS)
def test_texts_of_unknown_words_alone_are_refused_by_every_task(name: str, tmp_path: Path) -> None:
    task = task_of(name, _ROWS[name], tmp_path)
    with pytest.raises(InputError, match=r"text: expected words that the tokenizer .* knows, got unknown ones alone"):
        task.encode_training(task.rows["train"], tiny_tokenizer())


def test_texts_with_one_known_word_are_accepted(tmp_path: Path) -> None:
    rows = [{"text": _TEXT + " film", "label": label} for label in ("a", "b")]
    task = task_of("sequence_classification", rows, tmp_path)
    assert len(task.encode(task.rows["train"], tiny_tokenizer())) == 2


def test_special_tokens_are_no_words() -> None:
    tokenizer = tiny_tokenizer()
    ids = np.array(tokenizer("the film ሰላም ደህና")["input_ids"])
    assert len(ids) == 6  # with one special token on either side
    assert unknown_share(ids, tokenizer) == 0.5
    assert unknown_share(np.array([1, 2]), tokenizer) == 0


def test_a_tokenizer_whose_unknown_token_is_another_one_too_has_none() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.unk_token = tokenizer.sep_token  # as GPT-2 has it: bytes are never unknown
    assert unknown_share(np.array([2, 2, 2]), tokenizer) == 0
