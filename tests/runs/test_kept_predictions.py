"""Predictions are kept as they were made, for every task, and made again if the model or the rows change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quick_stages import LABELS, quick_arguments
from ted_distill import InputError, Task, TaskArguments, load_task
from ted_distill.models.load import ModelArguments
from ted_distill.runs import kept_predictions as module
from ted_distill.runs.kept_predictions import Predictions, kept_predictions
from tiny import save_tiny, write_entities, write_questions, write_reviews, write_text


def write_scores(folder: Path, rows: int, name: str) -> Path:
    file = folder / f"{name}.jsonl"
    file.write_text(
        "".join(json.dumps({"text": f"a {'very ' * row}good film", "label": row / 3}) + "\n" for row in range(rows))
    )
    return file


def write_sets(folder: Path, rows: int, name: str) -> Path:
    file = folder / f"{name}.jsonl"
    sets = [[], ["good"], ["good", "bad"]]
    file.write_text(
        "".join(json.dumps({"text": f"the film {row}", "label": sets[row % 3]}) + "\n" for row in range(rows))
    )
    return file


TASKS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "sequence_classification": (write_reviews, "bert", LABELS),
    "multi_label_classification": (write_sets, "bert", {"id2label": {0: "bad", 1: "good"}}),
    "regression": (write_scores, "bert", {"num_labels": 1}),
    "token_classification": (write_entities, "bert", {"num_labels": 4}),
    "squad_v2": (write_questions, "bert", {}),
    "causal_lm": (write_text, "gpt2", {}),
    "masked_lm": (write_text, "bert", {}),
}


def task_and_model(name: str, folder: Path, **changes: Any) -> tuple[Task, str]:
    write, family, config = TASKS[name]
    files = {f"{split}_file": str(write(folder, 12, split)) for split in ("train", "validation")}
    task = load_task(TaskArguments(name, **files, max_seq_length=32, doc_stride=8, **changes))
    if name == "token_classification":
        config = {"id2label": dict(enumerate(task.label_names or ()))}
    return task, str(save_tiny(folder / "model", task.auto_model, family, **config))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def keep(folder: Path, model: str, task: Task) -> Predictions:
    return kept_predictions(folder / "kept", model, task, quick_arguments(folder / "stage"), ModelArguments())


@pytest.mark.parametrize("name", TASKS)
def test_files_hold_predictions_exactly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = task_and_model(name, tmp_path)
    written: list[Any] = []
    monkeypatch.setattr(
        task, "write_predictions", lambda *args: (written.append(args[0]), type(task).write_predictions(task, *args))
    )
    found = keep(tmp_path, model, task)
    again = keep(tmp_path, model, task)

    assert found.split == "validation"
    assert len(written) == 1
    decoded = written[0]
    assert same(found.predictions, decoded)
    for field in ("split", "predictions", "scores", "probabilities", "confidences"):
        assert same(getattr(found, field), getattr(again, field)), field
    assert task.score(found.predictions, task.rows["validation"]) == found.scores


def test_confidences_are_those_of_the_predictions(tmp_path: Path) -> None:
    task, model = task_and_model("sequence_classification", tmp_path)
    found = keep(tmp_path, model, task)
    assert found.probabilities is not None
    assert found.probabilities.shape == (12, 2)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(12))
    assert found.probabilities.argmax(axis=1).tolist() == found.predictions.tolist()
    assert found.confidences == pytest.approx(found.probabilities.max(axis=1))


def test_words_and_questions_have_confidences_and_no_table_of_classes(tmp_path: Path) -> None:
    for name, count in (("token_classification", None), ("squad_v2", 12)):
        (folder := tmp_path / name).mkdir()
        task, model = task_and_model(name, folder)
        found = keep(folder, model, task)
        assert found.probabilities is None
        assert found.confidences is not None
        assert len(found.confidences) == (count or sum(map(len, found.predictions)))
        assert (found.confidences > 0).all()
        assert (found.confidences <= 1).all()


def test_a_decision_as_unsure_as_its_least_sure_label(tmp_path: Path) -> None:
    task, model = task_and_model("multi_label_classification", tmp_path)
    found = keep(tmp_path, model, task)
    assert found.probabilities is not None
    decided = np.where(found.predictions == 1, found.probabilities, 1 - found.probabilities)
    assert found.confidences == pytest.approx(decided.min(axis=1), abs=1e-6)


def test_another_model_or_other_rows_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = task_and_model("sequence_classification", tmp_path)
    made: list[str] = []
    make = module._make
    monkeypatch.setattr(module, "_make", lambda *args: (made.append(""), make(*args)))
    keep(tmp_path, model, task)
    keep(tmp_path, model, task)
    assert len(made) == 1
    other = str(save_tiny(tmp_path / "other", task.auto_model, seed=5, **LABELS))
    keep(tmp_path, other, task)
    assert len(made) == 2
    fewer, _ = task_and_model("sequence_classification", tmp_path, max_eval_samples=7)
    assert len(keep(tmp_path, other, fewer).predictions) == 7
    assert len(made) == 3
    (tmp_path / "kept" / "predictions.json").write_text("[]")
    assert len(keep(tmp_path, other, fewer).predictions) == 7
    assert len(made) == 4


def test_test_rows_are_the_ones_reported(tmp_path: Path) -> None:
    test = write_reviews(tmp_path, 5, "test")
    task, model = task_and_model("sequence_classification", tmp_path, test_file=str(test))
    found = keep(tmp_path, model, task)
    assert (found.split, len(found.predictions)) == ("test", 5)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    task, model = task_and_model("sequence_classification", tmp_path)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match=r"which holds mine\.txt"):
        keep(tmp_path, model, task)


def test_what_others_put_beside_predictions_stays_when_they_are_made_again(tmp_path: Path) -> None:
    task, model = task_and_model("sequence_classification", tmp_path)
    keep(tmp_path, model, task)
    (tmp_path / "kept" / "notes.txt").write_text("mine")
    (tmp_path / "kept" / "probabilities.npy").write_bytes(b"damaged")
    assert keep(tmp_path, model, task).probabilities is not None
    assert (tmp_path / "kept" / "notes.txt").read_text() == "mine"
