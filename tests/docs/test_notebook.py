"""examples/tickets.ipynb: its cells, one after the other, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny import save_minilm

NOTEBOOK = Path(__file__).parents[2] / "examples" / "tickets.ipynb"


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")


@pytest.mark.long
def test_every_cell_of_the_notebook_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_minilm(tmp_path)
    names: dict[str, Any] = {}
    for cell in cells():
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    assert {"teacher", "alone", "kd", "ted"} <= set(names["results"])
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()
    found = json.loads((tmp_path / "runs" / "notebook" / "report.json").read_text(encoding="utf-8"))
    assert found["missing"] == []
    assert found["costs"]["models"].keys() >= {"teacher", "ted"}
    assert all(one["interval"] for one in found["scores"]["models"])
    labels = set(names["rows"]["label"])
    printed = [line for line in capsys.readouterr().out.splitlines() if " | " in line]
    assert len(printed) == 3
    assert {line.split(" | ")[0] for line in printed} <= labels
