"""The report of tiny runs of every kind of task: what it says, that it is the same again, and what may be missing."""

from __future__ import annotations

import builtins
import csv
import json
import logging
import shutil
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSequenceClassification

from ted_distill import InputError, TaskArguments, bench, load_task
from ted_distill import run as run_from_python
from ted_distill.cli.main import main
from ted_distill.cli.report import report_at_the_end
from ted_distill.report import writing
from ted_distill.report.writing import write_report
from ted_distill.runs.recipe import read_recipe
from ted_distill.runs.run import run
from tiny import save_tiny, write_entities, write_questions, write_reviews, write_text

TAGS = {"id2label": dict(enumerate(["O", "B-person", "B-thing", "I-person"]))}


def write_scores(folder: Path, rows: int, name: str) -> Path:
    file = folder / f"{name}.jsonl"
    lines = [{"text": f"the film was {'very ' * (row % 4)}good", "label": row % 4 + 0.5} for row in range(rows)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


TASKS: dict[str, tuple[Any, str, dict[str, Any], dict[str, Any]]] = {
    "sequence_classification": (write_reviews, "bert", {}, {"id2label": {0: "bad", 1: "good"}}),
    "squad_v2": (write_questions, "bert", {"max_seq_length": 64, "doc_stride": 8}, {}),
    "token_classification": (write_entities, "bert", {}, TAGS),
    "causal_lm": (write_text, "gpt2", {"max_seq_length": 16}, {}),
    "regression": (write_scores, "bert", {}, {"num_labels": 1}),
}
"""Task -> what writes its rows, the models' family, the task's own keys, and those of the models' config."""
QUICK = {"methods": ["kd"], "pairs": None, "finetune_teacher": False, "finetune_student": False}
"""A run of two stages: models are taken as they are."""


def tiny_recipe(folder: Path, name: str, **changes: Any) -> Path:
    """The recipe of a short run of TED on tiny models."""
    write, family, own, config = TASKS[name]
    auto_class = load_task(name).auto_model
    recipe = {
        "task": name,
        "train_file": str(write(folder, 16, "train")),
        "validation_file": str(write(folder, 10, "validation")),
        **own,
        "teacher": str(save_tiny(folder / "big", auto_class, family, blocks=3, **config)),
        "student": str(save_tiny(folder / "small", auto_class, family, blocks=2, width=8, seed=1, **config)),
        "pairs": ["1:1", "3:2"],
        "methods": ["ted"],
        "output_dir": str(folder / "run"),
        "training": {
            "max_steps": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "eval_strategy": "no",
            "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "use_cpu": True,
        },
        **changes,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder / "recipe.yaml"


def tiny_run(folder: Path, name: str, **changes: Any) -> Path:
    """A finished run."""
    run(read_recipe(tiny_recipe(folder, name, **changes)))
    return folder / "run"


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on reviews, reported. Texts are as odd as they may be."""
    folder = tmp_path_factory.mktemp("reviews")
    finished = tiny_run(folder, "sequence_classification")
    write_report(finished)
    return finished


def test_a_run_with_test_rows_only_is_reported_with_its_scores_on_these(tmp_path: Path) -> None:
    test = str(write_reviews(tmp_path, 10, "test"))
    folder = tiny_run(tmp_path, "sequence_classification", **QUICK, test_file=test, validation_file=None)
    write_report(folder)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    content = read(folder)
    assert content["scores"]["rows"] == "the test rows"
    scores = {one["name"]: one["score"] for one in content["scores"]["models"]}
    assert scores == {name: result["test_accuracy"] for name, result in results.items()}
    assert content["disagreements"] is not None
    assert not [line for line in content["missing"] if "rows" in line]


@pytest.mark.long
def test_the_bench_of_a_run_is_in_its_report_as_long_as_it_is_of_the_same_models(reviews: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(reviews, folder)
    benched = bench(folder, formats=["pytorch"], rounds=1, rows=2)
    assert benched.folder == folder / "bench"
    assert [row["model"] for row in benched.candidates] == [
        "teacher", "student, fine-tuned", "student alone", "TED",
    ]  # fmt: skip
    assert [row["scores"]["accuracy"] for row in benched.candidates] == [
        one["score"] for one in read(reviews)["scores"]["models"]
    ]
    write_report(folder)
    assert read(folder)["bench"]["candidates"][-1]["to_teacher"]["score"] > 0
    assert "## Formats" in (folder / "report.md").read_text(encoding="utf-8")
    assert "accuracy against latency by model and format" in (folder / "report.html").read_text(encoding="utf-8")
    about = json.loads((benched.folder / "bench.json").read_text())
    # Nor are scores on test rows that were corrected since.
    results = json.loads((folder / "results.json").read_text())
    tested = {"rows": 12, "from": "test.jsonl", "content": "of now"}
    others = {name: {**one, "scored_on": {**one["scored_on"], "test": tested}} for name, one in results.items()}
    (folder / "results.json").write_text(json.dumps(others))
    (benched.folder / "bench.json").write_text(json.dumps({**about, "test_content": "of then"}))
    write_report(folder)
    assert any("The bench in bench/ is of other test rows" in line for line in read(folder)["missing"])
    (folder / "results.json").write_text(json.dumps(results))
    # Models trained anew are not those that were measured.
    about["candidates"][-1]["weights"]["model.safetensors"] = "another"
    (benched.folder / "bench.json").write_text(json.dumps(about))
    write_report(folder)
    assert read(folder)["bench"] is None
    assert any("The bench in bench/ is of other models" in line for line in read(folder)["missing"])


def test_what_is_said_of_the_task_is_said_of_that_of_the_run(reviews: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"formats": ["pytorch"], "rounds": 1, "rows": 2}
    found = bench(reviews, tmp_path / "out", task=TaskArguments(max_eval_samples=4), **options)
    assert found.about["rows"] == "4 validation rows of validation.jsonl"
    assert found.about["scored"]


def test_a_run_is_measured_alone_and_with_its_own_teacher(reviews: Path) -> None:
    with pytest.raises(InputError) as error:
        bench([reviews, reviews / "ted"], teacher=reviews / "teacher", formats=["pytorch"])
    assert [problem.partition(":")[0] for problem in error.value.problems] == ["bench", "teacher"]


def copied(finished: Path, folder: Path) -> Path:
    return Path(shutil.copytree(finished, folder / "run"))


def test_a_run_is_told_from_its_sentence_to_its_rows(reviews: Path) -> None:
    found = read(reviews)
    assert found["sentence"].startswith("A run on sequence_classification: a teacher of 3 blocks and ")
    assert "the 10 validation rows" in found["sentence"]
    names = [one["name"] for one in found["scores"]["models"]]
    assert names == ["teacher", "student", "alone", "ted"]
    results = json.loads((reviews / "results.json").read_text())
    for one in found["scores"]["models"]:
        assert one["score"] == pytest.approx(results[one["name"]]["accuracy"])
        assert one["interval"][0] <= one["score"] <= one["interval"][1]
    assert [list(one["blocks"]) for one in found["filter_heads"]["models"]] == [["1", "3"]]
    assert found["filter_heads"]["uninformed"] == pytest.approx(50.0)
    curves = found["curves"]["TED"]
    assert [step for step, _ in curves["pairs"]["3 \N{RIGHTWARDS ARROW} 2"]] == [1, 2]
    assert list(curves["losses"]) == ["loss", "pred_loss", "match_loss", "layer_loss"]
    assert set(found["agreement"][0]["scores"]) == {"agreement"}
    sizes = found["costs"]["models"]
    assert sizes["teacher"]["parameters"] > sizes["ted"]["parameters"] > sizes["ted"]["embedding_parameters"]
    assert sizes["ted"]["bytes"] == (reviews / "ted" / "model.safetensors").stat().st_size
    assert sizes["ted"]["rows_per_second"] == sizes["alone"]["rows_per_second"] > 0
    of_teacher, *_, of_ted = found["by_class"]["models"]
    assert [of_teacher["name"], of_ted["name"]] == ["teacher", "ted"]
    assert sum(of_ted["f1"].values()) / 2 == pytest.approx(results["ted"]["f1_macro"])
    assert "Scores by class" in (reviews / "report.html").read_text(encoding="utf-8")
    assert found["missing"] == []
    assert str(reviews.parent) not in (reviews / "report.html").read_text(encoding="utf-8")
    for name in ("report.html", "report.md"):
        text = (reviews / name).read_text(encoding="utf-8")
        assert found["verdicts"][0].partition(":")[0] in text
        assert f"{results['ted']['accuracy']:.2f}" in text


def test_a_report_made_again_is_the_same_byte_for_byte(reviews: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in reviews.iterdir() if file.is_file()}
    monkeypatch.setattr("ted_distill.report.costs._measure", lambda reported: pytest.fail("measured again"))
    monkeypatch.setattr("ted_distill.runs.kept_predictions._make", lambda *args: pytest.fail("predicted again"))
    files = write_report(reviews)
    assert {file.name for file in files} >= {"report.json", "report.md", "report.html"}
    assert before == {file.name: file.read_bytes() for file in reviews.iterdir() if file.is_file()}


@pytest.mark.parametrize("name", ["squad_v2", "token_classification", "causal_lm", "regression"])
def test_every_kind_of_task_has_a_report(name: str, tmp_path: Path) -> None:
    finished = tiny_run(tmp_path, name, **QUICK)
    write_report(finished)
    found = read(finished)
    assert found["missing"] == []
    assert all(one["interval"] for one in found["scores"]["models"])
    assert found["agreement"]
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 5  # scores, size, speed, and the losses of two trainings
    if name == "causal_lm":
        assert "no single rows are compared" in page
        assert "lower is better" in page
        assert not (finished / "disagreements.csv").exists()
        return
    with (finished / "disagreements.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    of_best = found["disagreements"]["counted"]
    assert len(lines) == sum(of_best.values())
    columns = {"squad_v2": "question", "token_classification": "sentence", "regression": "difference"}
    assert all(line[columns[name]] for line in lines)


def test_a_report_without_its_rows_or_a_model_keeps_what_was_measured(reviews: Path, tmp_path: Path) -> None:
    """What is not there for a moment, or for good with `keep: best`, cannot be measured again."""
    folder = copied(reviews, tmp_path)
    write_report(folder)
    before, costs = (folder / "measured.json").read_bytes(), read(folder)["costs"]["models"]
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("validation.jsonl", "gone.jsonl"))
    write_report(folder)
    assert (folder / "measured.json").read_bytes() == before
    assert read(folder)["costs"]["models"] == costs
    assert not (folder / "disagreements.csv").exists(), "it is of the report before"
    (folder / "recipe.yaml").write_text(recipe)
    (folder / "teacher" / "model.safetensors").unlink()
    write_report(folder)
    found = read(folder)
    assert found["costs"]["models"]["teacher"]["parameters"] == costs["teacher"]["parameters"]
    assert [*found["costs"]["models"]] == [*costs]
    assert not [line for line in found["missing"] if "size and speed" in line]


def test_a_report_does_not_compare_speeds_of_two_machines(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(reviews, tmp_path)
    write_report(folder)
    before = read(folder)["costs"]["models"]["teacher"]
    monkeypatch.setattr("ted_distill.report.costs.hardware", lambda: {"processor": "another", "cores": 1})
    (folder / "teacher").rename(tmp_path / "elsewhere")
    write_report(folder)
    found = read(folder)
    assert found["costs"]["models"]["teacher"] == {**before, "rows_per_second": None}
    assert found["costs"]["models"]["ted"]["rows_per_second"]
    assert [line for line in found["missing"] if "nothing is said of its speed" in line]
    assert "times as fast" not in (folder / "report.html").read_text(encoding="utf-8")


def test_rows_that_were_in_memory_are_given_again(tmp_path: Path) -> None:
    rows = [{"text": f"the film was {word}", "label": word} for word in ("good", "bad")] * 12
    model = save_tiny(tmp_path / "model", AutoModelForSequenceClassification, blocks=2)
    recipe = {
        "task": "sequence_classification", "student_layers": [2], "methods": ["kd"], "teacher": str(model),
        "output_dir": str(tmp_path / "run"), "training": {"max_steps": 1, "use_cpu": True, "disable_tqdm": True},
    }  # fmt: skip
    run_from_python(recipe, train=rows, validation=rows)
    write_report(tmp_path / "run")
    assert any("give them again: write_report(folder, " in line for line in read(tmp_path / "run")["missing"])
    write_report(tmp_path / "run", load_task("sequence_classification", train=rows, validation=rows))
    assert read(tmp_path / "run")["missing"] == []


# --- what may be missing ------------------------------------------------------------------------------------------


def test_an_older_run_without_curves_and_rows_is_reported_with_what_it_has(reviews: Path, tmp_path: Path) -> None:
    older = copied(reviews, tmp_path)
    for file in [*older.rglob("history.jsonl"), older / "measured.json"]:
        file.unlink()
    shutil.rmtree(older / "predictions")
    recipe = (older / "recipe.yaml").read_text().replace("validation.jsonl", "gone.jsonl")
    (older / "recipe.yaml").write_text(recipe)
    write_report(older)
    found = read(older)
    assert any("gone.jsonl" in line for line in found["missing"])
    assert any("history.jsonl" in line for line in found["missing"])
    assert [one["score"] for one in found["scores"]["models"]] == [
        one["score"] for one in read(reviews)["scores"]["models"]
    ]
    assert (found["curves"], found["agreement"], found["disagreements"]) == ({}, [], None)
    assert "What is missing" in (older / "report.html").read_text(encoding="utf-8")


def test_rows_that_are_others_now_are_not_mixed_with_the_scores_of_the_former_ones(
    reviews: Path, tmp_path: Path
) -> None:
    edited = copied(reviews, tmp_path)
    (rows,) = reviews.parent.glob("validation*")
    lines = rows.read_text().splitlines(keepends=True)
    other = tmp_path / rows.name
    other.write_text("".join([*lines[1:], lines[0]]))
    (edited / "recipe.yaml").write_text((edited / "recipe.yaml").read_text().replace(str(rows), str(other)))
    kept = {file: file.read_bytes() for file in (edited / "predictions").rglob("*") if file.is_file()}
    write_report(edited)
    found = read(edited)
    assert any("validation rows: expected those that the models were scored on" in line for line in found["missing"])
    assert (found["agreement"], found["disagreements"]) == ([], None)
    assert {file: file.read_bytes() for file in kept} == kept


def test_a_model_that_was_deleted_is_reported_from_what_was_kept(reviews: Path, tmp_path: Path) -> None:
    kept = copied(reviews, tmp_path)
    (kept / "alone" / "model.safetensors").unlink()
    write_report(kept)
    found = read(kept)
    assert [one["name"] for one in found["agreement"]] == ["student", "alone", "ted"]
    shutil.rmtree(kept / "predictions" / "alone")
    write_report(kept)
    found = read(kept)
    assert [one["name"] for one in found["agreement"]] == ["student", "ted"]
    assert any(line.startswith("No predictions of alone") for line in found["missing"])


@pytest.mark.long
def test_a_run_reports_before_it_drops_its_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One without fine-tuning and without Stage I."""
    recipe, finished = tiny_recipe(tmp_path, "sequence_classification", **QUICK), tmp_path / "run"
    assert main(["run", str(recipe), "keep=best"]) == 0
    said = capsys.readouterr()
    assert f"{finished / 'report.html'}\n" in said.out
    assert "no report" not in said.err
    assert not (finished / "kd" / "model.safetensors").exists()
    found, page = read(finished), (finished / "report.html").read_bytes()
    assert found["filter_heads"] is None
    assert [one["role"] for one in found["scores"]["models"]] == ["teacher", "start", "method", "method"]
    assert len(found["agreement"]) == 3
    assert b"Dotted line: the untrained student." in page
    assert main(["report", str(finished)]) == 0
    assert (finished / "report.html").read_bytes() == page


def test_a_report_that_fails_fails_no_run(
    reviews: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report_at_the_end(reviews / "none") == []
    assert "no report was written: report: expected the folder of a finished run" in capsys.readouterr().err
    monkeypatch.setattr(writing, "read_folder", lambda *_: {}["x"])
    assert report_at_the_end(reviews) == []
    assert f"KeyError in ted itself: 'x'; fix this, then run `ted report {reviews}`" in capsys.readouterr().err


def test_without_matplotlib_there_is_one_line_and_no_page(
    reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finished = copied(reviews, tmp_path)
    (finished / "report.html").unlink()
    found, imported = util.find_spec, builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        assert not name.startswith("matplotlib")
        return imported(name, *args, **more)

    monkeypatch.setattr(writing, "find_spec", lambda name: None if name == "matplotlib" else found(name))
    monkeypatch.setattr(builtins, "__import__", refuse)
    with caplog.at_level(logging.WARNING):
        files = write_report(finished)
    assert [file.name for file in files] == ["report.json", "report.md", "disagreements.csv"]
    assert not (finished / "report.html").exists()
    assert [line for line in caplog.messages if "matplotlib" in line] == [
        "report.html needs matplotlib, which is missing: pip install 'ted-distill[report]'"
    ]


def test_folders_without_a_run_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        InputError, match="which holds neither; give the folder that `ted run` or `ted compare` printed"
    ):
        write_report(tmp_path)
    assert main(["report", str(tmp_path / "none")]) == 2
    assert "which is not; check it" in capsys.readouterr().err
    assert main(["report"]) == 2
    assert "expected one folder of a run or comparison, got nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# --- comparisons --------------------------------------------------------------------------------------------------


def test_a_comparison_is_reported_with_its_seeds_and_pairs(reviews: Path, tmp_path: Path) -> None:
    """With the run's models as those of the first seed."""
    shared = copied(reviews, tmp_path)
    seed = shared / "compare" / "seed-1"
    for name in ("ted", "alone"):
        (seed / "predictions").mkdir(parents=True, exist_ok=True)
        (shared / name).replace(seed / name)
        (shared / "predictions" / name).replace(seed / "predictions" / name)
    for name in ("results.json", "recipe.yaml"):
        (shared / name).replace(seed / name)
    compared = {
        "metric": "accuracy", "lower_is_better": False, "split": "validation", "seeds": [1, 2, 3],
        "methods": ["alone", "ted"],
        "scores": {
            "teacher": {"accuracy": 90.0}, "student": {"accuracy": 60.0},
            "alone": [{"accuracy": 70.0}, {"accuracy": 72.0}, {"accuracy": 71.0}],
            "ted": [{"accuracy": 80.0}, {"accuracy": 82.0}, {"accuracy": 84.0}],
        },
        "intervals": {"alone": [68, 74], "ted": [78, 85]}, "gap_closed": {"ted": 0.57, "alone": None},
        "comparisons": [
            {"better": "ted", "worse": "alone", "difference": 11.0, "interval": [8, 14], "p_holm": 0.01,
             "told_apart": True}
        ],
        "chosen": {"ted": {"mse_alpha": 10}}, "verdicts": ["TED is better than student alone."],
    }  # fmt: skip
    (shared / "compare" / "compare.json").write_text(json.dumps(compared))
    files = write_report(shared)
    assert {file.parent for file in files} == {shared / "compare"}
    found = read(shared / "compare")
    assert found["missing"] == []
    assert found["sentence"].startswith("A comparison over 3 seeds on sequence_classification")
    assert found["verdicts"][:2] == [
        "TED has the best mean of what was compared: 82.00 (78.00 to 85.00), 8.00 short of the teacher's 90.00.",
        "TED is better than student alone.",
    ]
    ted = next(one for one in found["scores"]["models"] if one["name"] == "ted")
    assert (ted["score"], ted["deviation"], ted["of_seeds"]) == (82.0, 2.0, [80.0, 82.0, 84.0])
    assert ted["note"] == "mse_alpha 10"
    assert [one["name"] for one in found["agreement"]] == ["student", "alone", "ted"]
    assert found["filter_heads"] is not None
    assert "TED" in found["curves"]
    page = (shared / "compare" / "report.html").read_text(encoding="utf-8")
    assert "Which methods can be told apart" in page
    assert "Curves are those of seed 1." in page


def test_a_report_has_the_rows_wherever_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(home)
    finished = tiny_run(home, "sequence_classification", **QUICK, train_file="train.jsonl", teacher="big",
                        validation_file="validation.jsonl", output_dir="run")  # fmt: skip
    write_report(finished)
    said = read(finished)["agreement"]
    assert said
    assert not read(finished)["missing"]
    monkeypatch.chdir(elsewhere)
    assert write_reviews(elsewhere, 6, "validation").name == "validation.jsonl", "which the recipe does not mean"
    assert main(["report", str(finished)]) == 0
    assert read(finished)["agreement"] == said
    # A run that was moved alone still finds what it was given where the command is.
    shutil.copytree(finished, elsewhere / "moved")
    shutil.rmtree(finished)
    assert read_recipe(elsewhere / "moved" / "recipe.yaml").task.train_file == "train.jsonl"
