"""The tables of docs/study.md and README.md are those of what was measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"
spec = importlib.util.spec_from_file_location("make_study_tables", DOCS / "make_study_tables.py")
assert spec is not None
assert spec.loader is not None
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@pytest.mark.parametrize("page", script.PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_tables_that_the_script_makes(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert script._PLACE.search(text)
    assert text == script.page_with_tables(text, script.measured())


def test_the_plot_is_of_what_was_measured() -> None:
    described = ElementTree.parse(script.PLOT).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert described is not None
    assert described.text == script.plotted(script.measured())
    assert "study.svg" in (DOCS / "study.md").read_text(encoding="utf-8")


def test_every_comparison_has_a_table() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in script.PAGES)
    assert [name for name in script.measured() if f"<!-- study {name} -->" not in text] == []


def test_a_cell_has_the_mean_of_the_seeds_and_the_best_one_is_bold() -> None:
    one = {
        "metric": "f1", "seeds": [1, 2], "scores": {"teacher": {"f1": 90.04}, "alone": [], "kd": []},
        "means": {"alone": 80.0, "kd": 82.25}, "intervals": {"alone": [78.0, 82.0], "kd": [81.0, 83.5]},
    }  # fmt: skip
    header, _, row = ([cell.strip() for cell in line.strip("|").split("|")]
                      for line in script.table_of_all({"mrpc": one}).splitlines())  # fmt: skip
    assert header == ["task (score)", "seeds", "teacher", "alone", "KD"]
    assert row == ["MRPC (F1)", "2", "90.0", "80.0 (78.0\N{EN DASH}82.0)", "**82.2** (81.0\N{EN DASH}83.5)"]


def test_a_grid_has_the_scores_that_chose_and_what_was_chosen_is_bold() -> None:
    one = {
        "metric": "f1", "chosen": {"alone": {"learning_rate": "1e-4"}, "ted": {"learning_rate": "5e-4"}},
        "search": {
            "rows": 1550, "scores": {
                "alone": {"learning_rate=1e-4": 80.04, "learning_rate=5e-4": 79.9},
                "ted": {"learning_rate=5e-4": 82.0},
            },
        },
    }  # fmt: skip
    header, _, alone, ted = ([cell.strip() for cell in line.strip("|").split("|")]
                             for line in script.table_of_grid(one).splitlines())  # fmt: skip
    assert header == ["f1 on 1,550 rows", "learning_rate=1e-4", "learning_rate=5e-4"]
    assert (alone, ted) == (["alone", "**80.0**", "79.9"], ["TED", "", "**82.0**"])


def test_epochs_are_rows_in_their_order_and_the_default_number_is_the_task_s_own_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study" / "epochs").mkdir(parents=True)
    for epochs, mean in ((10, 82.0), (2, 80.0), (3, 79.0)):
        one = {
            "metric": "f1", "seeds": [1], "scores": {"teacher": {"f1": 90.0}}, "means": {"alone": mean, "ted": 81.0},
            "intervals": {"alone": [78.0, 83.0], "ted": [80.0, 82.5]}, "steps": {"alone": 100 * epochs},
        }  # fmt: skip
        file = tmp_path / "study" / ("mrpc.json" if epochs == 3 else f"epochs/mrpc_{epochs}.json")
        if epochs == 3:
            one["means"] |= {"kd": 83.0}
            one["intervals"] |= {"kd": [82.0, 84.0]}
        file.write_text(json.dumps(one))
    monkeypatch.setattr(script, "DOCS", tmp_path)
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in script.table_of_epochs("mrpc").splitlines()]  # fmt: skip
    assert rows[0] == ["epochs", "updates", "seeds", "teacher", "alone", "TED"]
    assert rows[2] == ["2", "200", "1", "90.0", "80.0 (78.0\N{EN DASH}83.0)", "**81.0** (80.0\N{EN DASH}82.5)"]
    assert rows[3] == ["3", "300", "1", "90.0", "79.0 (78.0\N{EN DASH}83.0)", "**81.0** (80.0\N{EN DASH}82.5)"]
    assert rows[4][:2] == ["10", "1000"]
    assert rows[4][4].startswith("**82.0**")


def test_a_change_has_the_difference_of_each_seed_in_common_and_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study" / "changes" / "mrpc").mkdir(parents=True)

    def compared(seeds: list[int], **scores: list[float]) -> str:
        of_methods = {method: [{"f1": score} for score in of] for method, of in scores.items()}
        return json.dumps({"metric": "f1", "seeds": seeds, "methods": list(scores), "scores": of_methods})

    (tmp_path / "study" / "mrpc.json").write_text(compared([1, 2, 3], alone=[1.0] * 3, lwd=[70] * 3, ted=[80, 82, 84]))
    changes = tmp_path / "study" / "changes" / "mrpc"
    (changes / "frozen.json").write_text(compared([2, 3, 4], alone=[1.0] * 3, ted=[81.0, 85.0, 99.0]))
    (changes / "identity.json").write_text(compared([1], alone=[1.0], lwd=[78.5]))
    monkeypatch.setattr(script, "DOCS", tmp_path)
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in script.table_of_changes("mrpc").splitlines()]  # fmt: skip
    assert rows[0] == ["change", "seeds", "alone", "TED"]
    assert rows[2] == ["none", "3", "1.00", "82.00"]
    # Differences -1 and +1: their standard error is 1, and t of one degree of freedom is 12.71.
    assert rows[3][1:] == ["2", "the same", "83.00 (+0.00, -12.71 to +12.71)"]
    assert rows[4][1:] == ["1", "", "78.50 (-1.50)"]


def test_the_share_of_the_teachers_score_that_readme_names_is_the_tables() -> None:
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    shares: dict[bool, list[float]] = {False: [], True: []}
    for name, one in script.measured().items():
        if name in script.TITLES:
            student, teacher = one["means"]["ted"], one["scores"]["teacher"][one["metric"]]
            share = 100 * (teacher / student if one["lower_is_better"] else student / teacher)
            shares[name.endswith("_256")].append(share)
    wide, narrow = (f"{min(of):.0f} to {max(of):.0f} %" for of in shares.values())
    assert [len(of) for of in shares.values()] == [7, 5]
    said = " ".join(text.split())
    assert f"keep {wide} of its score**, on seven tasks" in said
    assert f"those of width 256 (10.4 of 22.7 million parameters) {narrow}, on five" in said
