"""Tasks in files of users, named FILE.py:CLASS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from ted_distill import InputError, TaskArguments, load_task, run
from ted_distill.cli.main import main
from ted_distill.export.generated_rows import kind_of
from ted_distill.identity import changes, class_fingerprint, source_fingerprint
from ted_distill.models.load import load_model
from ted_distill.runs.dropped_models import run_identity
from ted_distill.runs.recipe import make_recipe
from ted_distill.stages.lifecycle import _outputs_of
from ted_distill.tasks import SequenceClassification
from ted_distill.tasks.base import Split
from ted_distill.tasks.resampling import Draws
from ted_distill.tasks.squad.question_answering import QuestionAnswering, SpanPredictions
from ted_distill.tasks.text.causal_lm import CausalLM
from ted_distill.tasks.token_classification import TokenClassification
from tiny import save_tiny

PAGE = Path(__file__).parents[2] / "docs" / "add-a-task.md"
OWN = "ordinal.py:OrdinalClassification"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the file of the documentation, and rows with one to five stars."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "ordinal.py").write_text(code)
    words = ["awful", "dull", "fine", "good", "great"]
    rows = [{"text": f"the film was {words[row % 5]}", "label": f"{row % 5 + 1} stars"} for row in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_in_a_file_runs_from_a_recipe(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(here / "big", AutoModelForSequenceClassification, blocks=2)
    recipe = {
        "task": OWN, "teacher": "big", "student_layers": [1], "methods": ["kd"], "train_file": "rows.jsonl",
        "validation_file": "rows.jsonl",
        "training": {"max_steps": 2, "per_device_train_batch_size": 5, "eval_strategy": "no", "save_strategy": "no"},
    }  # fmt: skip
    (here / "stars.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", "stars.yaml"]) == 0
    assert "mean_error" in capsys.readouterr().out
    results = json.loads((here / "runs/stars/kd/all_results.json").read_text())
    assert results["metric"] == "mean_error"
    card = (here / "runs/stars/kd/README.md").read_text()
    assert "OrdinalClassification" in card
    assert "ordinal.py" not in card.split("```")[0]

    assert "mean_error" in (here / "runs/stars/report.md").read_text()
    assert main(["compare", "stars.yaml", "--seeds", "2", "output_dir=compared"]) == 0
    content = json.loads((here / "compared/compare/compare.json").read_text())
    assert content["lower_is_better"]
    low, high = content["intervals"]["kd"]
    assert low <= content["means"]["kd"] <= high

    # A checkpoint does not hold the code.
    assert main(["bench", "runs/stars/kd"]) == 2
    assert "give --task FILE.py:OrdinalClassification" in capsys.readouterr().err
    # Its recipe names the file wherever it is read from.
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["show", "../runs/stars/recipe.yaml"]) == 0
    assert "OrdinalClassification (One of several classes with an order" in capsys.readouterr().out


def test_the_code_of_a_task_of_ones_own_is_part_of_what_it_computes(here: Path) -> None:
    found = load_task(TaskArguments(OWN, train_file="rows.jsonl")).settings
    copy = here / "other" / "ordinal.py"
    copy.parent.mkdir()
    copy.write_text((here / "ordinal.py").read_text())
    same = TaskArguments("other/ordinal.py:OrdinalClassification", train_file="rows.jsonl")
    assert load_task(same).settings == found
    (here / "changed.py").write_text(copy.read_text() + "# changed\n")
    changed = load_task(TaskArguments("changed.py:OrdinalClassification", train_file="rows.jsonl")).settings
    assert {key for key in found if changed[key] != found[key]} == {"code"}


def test_a_file_that_was_edited_is_run_anew_in_the_same_process(here: Path) -> None:
    def metrics() -> tuple[Any, str]:
        task = load_task(TaskArguments(OWN, train_file="rows.jsonl"))
        return task.metric, task.settings["code"]

    before = metrics()
    code = (here / "ordinal.py").read_text()
    (here / "ordinal.py").write_text(code.replace('"mean_error"', '"mean_erro_"'))  # as long, and at the same second
    after = metrics()
    assert (before[0], after[0]) == ("mean_error", "mean_erro_")
    assert before[1] != after[1]
    assert not (here / "__pycache__").exists()


def test_features_are_kept_under_the_code_that_made_them(here: Path) -> None:
    task = load_task(TaskArguments(OWN, train_file="rows.jsonl"))
    before = source_fingerprint(type(task).score)
    (here / "ordinal.py").write_text((here / "ordinal.py").read_text() + "# changed\n")
    assert source_fingerprint(type(task).score) == before
    later = load_task(TaskArguments(OWN, train_file="rows.jsonl"))
    assert source_fingerprint(type(later).score) != before


def test_a_file_is_run_as_it_would_be_by_python(here: Path) -> None:
    lines = ["def number(value: int): pass", "assert number.__annotations__ == {'value': int}", "class X: pass"]
    (here / "own.py").write_text("\n".join(lines))
    with pytest.raises(InputError, match="expected a subclass of `Task`"):
        load_task(TaskArguments("own.py:X", train_file="rows.jsonl"))


def test_outputs_of_a_teacher_are_kept_by_the_code_that_chooses_them(here: Path) -> None:
    line = "from ted_distill.tasks import SequenceClassification\nclass Own(SequenceClassification):\n    scale = {}\n"
    teacher = save_tiny(here / "big", AutoModelForSequenceClassification, blocks=2, num_labels=5)
    folders = []
    for scale, columns in ((1, {}), (2, {}), (2, {"position_ids": [[0, 1, 2]] * 2}), (2, {"labels": [0, 1]})):
        (here / "own.py").write_text(line.format(scale))
        task = load_task(TaskArguments("own.py:Own", train_file="rows.jsonl"))
        features = Dataset.from_dict({"input_ids": [[1, 2, 3]] * 2, "length": [3, 3], **columns})
        frozen = load_model(str(teacher), load_task(TaskArguments("sequence_classification", train_file="rows.jsonl")))
        folders.append(_outputs_of(frozen, task, features))
    assert len({*folders[:3]}) == 3
    assert folders[3] == folders[1]


@pytest.mark.long
def test_processes_side_by_side_have_a_task_of_ones_own_with_rows_in_memory(here: Path) -> None:
    save_tiny(here / "big", AutoModelForSequenceClassification, blocks=2)
    rows = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    content = {
        "task": OWN, "teacher": "big", "student_layers": [1], "methods": ["kd"], "workers": 2, "output_dir": "out",
        "training": {"max_steps": 2, "per_device_train_batch_size": 5, "disable_tqdm": True},
    }  # fmt: skip
    assert run(content, train=rows, validation=rows)["kd"]["metric"] == "mean_error"


def test_no_rows_are_made_up_for_a_task_of_ones_own(here: Path) -> None:
    assert kind_of(load_task(TaskArguments(OWN, train_file="rows.jsonl"))) is None


def test_what_a_task_imports_from_files_of_the_user_is_part_of_its_code(here: Path) -> None:
    """And what these import in turn; a library is known by its version."""
    (here / "first_help.py").write_text("import json\nfrom second_help import SCALE\nscale = SCALE\n")
    code = "from first_help import scale\n" + (here / "ordinal.py").read_text()
    (here / "helped.py").write_text(code)

    def printed(scale: str) -> str:
        (here / "second_help.py").write_text(f"SCALE = {scale}\n")
        command = (
            "from ted_distill.tasks import load_task\nfrom ted_distill import TaskArguments\n"
            "from ted_distill.identity import source_fingerprint\n"
            "task = load_task(TaskArguments('helped.py:OrdinalClassification', train_file='rows.jsonl'))\n"
            "print(task.settings['code'], source_fingerprint(type(task).score))"
        )
        run = subprocess.run(
            [sys.executable, "-c", command], env={**os.environ, "PYTHONPATH": str(here)}, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    one, other, again = printed("1"), printed("2"), printed("1")
    assert one == again
    assert not {*one.split()} & {*other.split()}


def test_a_task_typed_into_a_notebook_is_told_from_one_with_other_methods() -> None:
    def typed(body: str) -> str | None:
        names: dict[str, Any] = {"__name__": "__notebook__"}
        exec(f"from ted_distill.tasks import SequenceClassification\nclass Own(SequenceClassification):\n{body}", names)
        return class_fingerprint(names["Own"])

    one = typed("    def loss(self, logits, batch, count=None): return 1.0")
    assert one == typed("\n    def loss(self, logits, batch, count=None): return 1.0")
    others = (
        "    def loss(self, logits, batch, count=None): return 2.0", "    limit = 3", "    limit = 4",
        "    @staticmethod\n    def help(x): return x in {'a', 'b'}",
        "    @staticmethod\n    def help(x): return x in {'a'}",
        "    @property\n    def num_labels(self): return 3", "    @property\n    def num_labels(self): return 4",
        "    def help(self, x=1): return x", "    def help(self, x=2): return x",
        "    kinds = {'a', 'b'}", "    kinds = {'a'}",
    )  # fmt: skip
    assert len({one, *map(typed, others)}) == 1 + len(others)
    # Sets have another order in the next process.
    code = (
        "class Own:\n    kinds = {'one': ({'a', 'b', 'c'},)}\n"
        "    @staticmethod\n    def help(x): return x in {'a', 'b', 'c'}\n"
        "from ted_distill.identity import class_fingerprint\nprint(class_fingerprint(Own))"
    )
    command = [sys.executable, "-"]
    found = [
        subprocess.run(command, input=code, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
        for seed in ("1", "2")
    ]
    assert found[0].stdout == found[1].stdout != ""


def test_the_same_run_with_other_code_of_its_task_is_another(here: Path) -> None:
    def identity(file: str) -> Any:
        content = {
            "task": f"{file}:OrdinalClassification", "train_file": "rows.jsonl", "validation_file": "rows.jsonl",
            "teacher": "big", "student": "small", "output_dir": "x",
        }  # fmt: skip
        recipe = make_recipe(content)
        return run_identity(recipe, load_task(recipe.task), {})

    code = (here / "ordinal.py").read_text()
    (here / "moved.py").write_text(code)
    (here / "changed.py").write_text(code.replace("> 0)", "> 0.5)"))
    assert identity("moved.py") == identity("ordinal.py")
    assert changes(identity("ordinal.py"), identity("changed.py"))


class _OwnScore(SequenceClassification):
    metrics = ("cost",)
    lower_is_better = ("cost",)

    def score(self, predictions: Any, rows: Any) -> dict[str, float]:
        return {"cost": float(np.abs(np.asarray(predictions) - np.asarray(rows["label"])).mean())}


class _OwnTags(TokenClassification):
    def score(self, predictions: Any, rows: Any) -> dict[str, float]:
        return {self.metric: float(sum(map(len, predictions)))}


class _OwnAnswers(QuestionAnswering):
    def score(self, predictions: Any, rows: Any) -> dict[str, float]:
        return {"f1": sum(float(predictions.answers[id_]) for id_ in rows["id"])}


class _OwnText(CausalLM):
    metric = "accuracy"


class _OwnReading(SequenceClassification):
    def decode(self, logits: Any, split: Any) -> Any:
        return (np.stack(logits) > 0).sum(axis=-1)


def test_intervals_of_a_score_of_ones_own_are_of_that_score() -> None:
    draws = Draws(4, 3)
    drawn = [draw.tolist() for draw in draws]
    cost = _OwnScore(TaskArguments("sequence_classification"))
    rows = Dataset.from_dict({"label": [0, 1, 2, 5]})
    found = cost.sampled_score(np.zeros(4, dtype=int), rows, draws)
    assert found.tolist() == [np.mean([(0, 1, 2, 5)[row] for row in draw]) for draw in drawn]
    cost._label_names = list("abcdef")
    assert cost.uninformed_score(Split(rows, rows)) == 1.5  # of always 1 or 2, not the worst constant answer

    tags = _OwnTags(TaskArguments("token_classification"))
    tags._label_names = ["DET", "NOUN"]
    words = [["DET"] * length for length in (1, 2, 3, 4)]
    found = tags.sampled_score(words, Dataset.from_dict({"tags": [[0], [0], [0], [0]]}), draws)
    assert found.tolist() == [sum(row + 1 for row in draw) for draw in drawn]

    answers = SpanPredictions({"a": "1", "b": "2", "c": "3", "d": "4"})
    found = _OwnAnswers(TaskArguments("squad")).sampled_score(answers, Dataset.from_dict({"id": list("abcd")}), draws)
    assert found.tolist() == [sum(row + 1 for row in draw) for draw in drawn]

    tokens = [np.array([[-1.0, right, 0.0]]) for right in (1, 0, 0, 1)]
    found = _OwnText(TaskArguments("causal_lm")).sampled_score(tokens, Dataset.from_dict({"text": ["a b"]}), draws)
    assert found.tolist() == [100 * np.mean([(1, 0, 0, 1)[row] for row in draw]) for draw in drawn]


def test_predictions_read_in_ones_own_way_have_no_probabilities_of_classes() -> None:
    task = _OwnReading(TaskArguments("sequence_classification"))
    logits = [np.array([3.0, 1.0, -1.0], dtype=np.float32)] * 2
    assert task.probabilities(logits) is None
    assert task.confidences(logits, [2, 2], Split(Dataset.from_dict({}), Dataset.from_dict({}))) is None


def test_tasks_of_the_package_have_no_code_of_their_own() -> None:
    assert "code" not in load_task("sst2").settings


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py:X", None, "expected FILE.py:CLASS with a file that is there, got none.py, which is not"),
        ("ordinal.py:Ordinal", None, "expected a subclass of `Task` in ordinal.py, got 'Ordinal'"),
        ("own.py:X", "class X: pass", "expected a subclass of `Task` in own.py, got 'X'; docs/add-a-task.md has one"),
        ("own.py:X", "import nowhere_at_all", r"expected own.py to run, got an error \(No module named"),
        ("own.py:X", "def", r"expected own.py to run, got an error \("),
        ("own.py:X", "import sys; sys.exit(3)", r"expected own.py to run, got an error \("),
        (
            "own.py:X",
            "from ted_distill.tasks import Task\nclass X(Task): pass",
            "expected X in own.py to define all that a task needs, got none of .*loss",
        ),
    ],
)
def test_a_file_without_such_a_task_is_refused(here: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (here / "own.py").write_text(content)
    with pytest.raises(InputError, match=message):
        load_task(TaskArguments(name, train_file="rows.jsonl"))
