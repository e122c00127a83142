"""What a stage says of text that its model does not see."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ted_distill import StageArguments, TaskArguments, load_task
from ted_distill.stages.lifecycle import read_data
from ted_distill.stages.rows.lost_text import cut_share
from tiny import tiny_tokenizer

Said = Callable[[list[str]], list[str]]


@pytest.fixture
def said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Said:
    """What a stage says of training texts."""

    def of(texts: list[str]) -> list[str]:
        file = tmp_path / "rows.jsonl"
        rows: list[dict[str, Any]] = [{"text": text, "label": n % 2} for n, text in enumerate(texts)]
        file.write_text("\n".join(map(json.dumps, rows)))
        task = load_task(TaskArguments("sequence_classification", train_file=str(file), max_seq_length=10))
        args = StageArguments(
            str(tmp_path / "out"), num_train_epochs=1, per_device_train_batch_size=1, eval_strategy="no", use_cpu=True
        )
        with caplog.at_level(logging.WARNING, "ted_distill"):
            read_data(task, tiny_tokenizer(), args)
            read_data(task, tiny_tokenizer(), args)
        return [message for message in caplog.messages if not message.startswith("train: ")]

    return of


def test_rows_that_are_cut_are_said_once(said: Said) -> None:
    (line,) = said(["the film was " + "very " * 20 + "good"] * 3 + ["the film was bad"])
    assert line.startswith("max_seq_length: 75 % of the training rows are cut at 10 tokens, or just fill them;")


def test_many_unknown_words_are_said(said: Said) -> None:
    (line,) = said(["the film ሰላም", "the book ደህና"])
    assert line.startswith("text: expected words that the model's tokenizer knows, got 33 % unknown ones ([UNK]),")


def test_texts_that_fit_and_are_known_are_no_matter(said: Said) -> None:
    assert said(["the film was good", "the film was bad ☂ good"] * 2) == []


def test_the_share_of_cut_rows_is_that_of_the_longest(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": "good " * n, "label": n % 2}) + "\n" for n in (1, 2, 3, 8)))
    task = load_task(TaskArguments("sequence_classification", train_file=str(file)))
    features = task.encode(task.rows["train"], tiny_tokenizer())
    assert [cut_share(features, longest) for longest in (3, 5, 10, 11)] == [1.0, 0.5, 0.25, 0.0]
