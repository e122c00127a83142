"""A run once more, from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_runs import write_recipe
from ted_distill import read_recipe
from ted_distill.cli.main import main
from ted_distill.errors import InputError
from ted_distill.runs.reproduce import reproduce


def test_a_repeated_run_has_the_same_scores_and_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = write_recipe(tmp_path, "sequence_classification")
    folder = tmp_path / "run"
    words = ["methods=[kd]", "training.num_train_epochs=1", "start_from=pretrained", "finetune_student=false"]
    words += ["student_trim=train"]
    assert (
        main(
            [
                "run",
                str(file),
                *words,
                f"output_dir={folder}",
                "keep=best",
                "report=false",
                "--require",
                "kd.accuracy >= 0",
            ]
        )
        == 0
    )
    found = reproduce(folder)
    assert found.difference == 0
    assert {model.model: model.same_weights for model in found.models} == {
        "teacher": True, "student": None, "alone": True, "kd": True, "best": True,
    }  # fmt: skip
    assert found.folder == tmp_path / "run-again"
    assert "the same" in str(found)
    assert found.inputs == []

    # A score that the run never had: the repetition is there already, and is compared at once.
    results = folder / "results.json"
    changed = results.read_text(encoding="utf-8").replace('"kd": {\n    "accuracy": ', '"kd": {\n    "accuracy": 1')
    results.write_text(changed, encoding="utf-8")
    capsys.readouterr()
    assert main(["reproduce", str(folder)]) == 4
    assert "got " in capsys.readouterr().err
    assert main(["reproduce", str(folder), "tolerance=1000"]) == 0

    caplog.clear()
    rows = Path(str(read_recipe(file).task.validation_file))
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join([*lines[1:], lines[0]]))
    found = reproduce(folder, tmp_path / "other")
    assert caplog.messages[0].startswith("data: expected the rows of the run, got others for validation (validation.")
    assert found.inputs == ["data validation changed"]
    assert str(found).endswith("Other inputs: data validation changed.")


def test_another_file_of_the_same_name_is_refused_before_anything_is_trained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = write_recipe(tmp_path, "sequence_classification")
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    rows = Path(str(read_recipe(file).task.train_file))
    for folder in (project, elsewhere):
        folder.mkdir()
        (folder / "t.jsonl").write_text(rows.read_text())
    monkeypatch.chdir(project)
    words = [
        "methods=[kd]",
        "training.max_steps=1",
        "training.eval_strategy=no",
        "start_from=pretrained",
        "check=false",
    ]
    words += ["finetune_teacher=false", "finetune_student=false", "train_file=t.jsonl", "report=false"]
    assert main(["run", str(file), *words, "output_dir=run"]) == 0
    (project / "t.jsonl").unlink()
    monkeypatch.chdir(elsewhere)
    other = (elsewhere / "t.jsonl").read_text().splitlines(keepends=True)
    (elsewhere / "t.jsonl").write_text("".join([*other[1:], other[0]]))
    capsys.readouterr()
    assert main(["reproduce", "../project/run", "output_dir=again"]) == 2
    said = capsys.readouterr().err
    assert f"train_file: expected the rows of the run, of {project / 't.jsonl'}, which is not there, got other" in said
    assert f"of {elsewhere / 't.jsonl'}; put the file back" in said
    assert not Path("again").exists()
    # The same rows are as good, wherever they are; a word says which file it is.
    (elsewhere / "t.jsonl").write_text("".join(other))
    assert main(["reproduce", "../project/run", "output_dir=again"]) == 0
    assert "t.jsonl, as ../project/run/recipe.yaml has recorded it, got none there; taking" in caplog.text


def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a run"):
        reproduce(tmp_path)
    (tmp_path / "recipe.yaml").write_text("# The recipe of this run, as `ted run` read it.\ntask: stsb\n")
    with pytest.raises(InputError, match="expected a finished run"):
        reproduce(tmp_path)


def test_other_words_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "runs/x", "seed=1"]) == 2
    for tolerance in ("much", "nan", "-1", "inf"):
        assert main(["reproduce", "runs/x", f"tolerance={tolerance}"]) == 2
        assert f"tolerance: expected a number of at least 0, got {tolerance}; " in capsys.readouterr().err
