"""Tasks in files of users, named FILE.py:CLASS."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForSequenceClassification

from ted_distill import InputError, TaskArguments, load_task
from ted_distill.cli.main import main
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
        "validation_file": "rows.jsonl", "report": False, "check": False,
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
