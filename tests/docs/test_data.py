"""docs/data.md: its example files are read by the tasks they are said to be for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ted_distill.tasks import TaskArguments, load_task

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"`([a-z]+\.[a-z]+)`[^\n]*:\n\n```text\n(.*?)```", PAGE, flags=re.DOTALL))
FIRST_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "tickets.csv": ("sequence_classification", {"text": "My parcel never came.", "label": 0}),
    "tags.jsonl": ("multi_label_classification", {"text": "The film made me laugh and cry.", "label": [1.0, 1.0]}),
    "similar.tsv": (
        "regression",
        {"text": "A man plays a guitar.", "text_pair": "Someone makes music.", "label": 3.8},
    ),
    "names.conll": (
        "token_classification",
        {"tokens": ["Ada", "Lovelace", "lived", "in", "London"], "tags": [2, 3, 0, 0, 1]},
    ),
    "questions.jsonl": (
        "question_answering",
        {
            "id": "0",
            "context": "Ada lived in London.",
            "question": "Who lived in London?",
            "answers": {"text": ["Ada"], "answer_start": [0]},
        },
    ),
    "book.txt": ("causal_lm", {"text": "It was a bright day in April.\n"}),
}


def test_every_example_file_is_tried() -> None:
    assert set(EXAMPLES) == set(FIRST_ROWS)


@pytest.mark.parametrize("name", FIRST_ROWS)
def test_an_example_file_is_read_by_its_task(name: str, tmp_path: Path) -> None:
    kind, first = FIRST_ROWS[name]
    (tmp_path / name).write_text(EXAMPLES[name], encoding="utf-8")
    task = load_task(TaskArguments(kind, train_file=str(tmp_path / name)))
    rows = task.rows["train"]
    assert list(task.problems(rows, "train")) == []
    assert rows.num_rows == 2
    assert rows[0] == first
