"""`student_trim: train`: the best student has only the tokens of the training texts, and says the same on them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from small_runs import write_recipe
from ted_distill import InputError, read_recipe
from ted_distill.cli.main import main
from ted_distill.errors import GateError
from ted_distill.runs.planning import plan
from ted_distill.runs.planning.show import show
from ted_distill.runs.recipe import make_recipe
from ted_distill.runs.run import run
from ted_distill.runs.trimming import training_texts
from ted_distill.tasks import TASKS, SequenceClassification, load_task
from tiny import WORDS, write_text

SHORT = ["training.num_train_epochs=1", "training.eval_strategy=epoch", "training.save_strategy=epoch", "check=false"]


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), "sequence_classification")


def _logits(folder: Path, text: str) -> torch.Tensor:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits


def test_the_best_student_is_smaller_and_says_the_same(
    recipe_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    trimmed_recipe = [*SHORT, f"output_dir={folder}", "methods=[lwd]", "student.trim=train"]
    recipe = read_recipe(recipe_file, trimmed_recipe)
    assert recipe.run.student == yaml.safe_load(recipe_file.read_text())["student"]
    planned = plan(recipe)
    results = run(recipe)
    (best,) = [name for name, of in results.items() if of.get("best")]
    about = json.loads((folder / "best" / "trim.json").read_text())
    trimmed = results[best]["trimmed"]
    assert planned.trimmed == (about["after"]["tokens"], about["after"]["parameters"])
    assert trimmed["parameters"] == about["after"]["parameters"] < results[best]["parameters"]
    assert f"{trimmed['tokens']} of 40 tokens, {trimmed['parameters']:,} parameters" in " ".join(show(planned).split())
    table = (folder / "results.md").read_text(encoding="utf-8")
    (row,) = [line for line in table.splitlines() if ", trimmed " in line]
    assert f" {trimmed['parameters']:,} |" in row
    assert row.split("|")[-2].strip() == "best"
    assert f"{trimmed['tokens']} of 40 tokens, those of the training texts" in table
    for row_ in load_task(recipe.task).rows["train"].select(range(3)):
        assert torch.allclose(_logits(folder / "best", row_["text"]), _logits(folder / best, row_["text"]), atol=1e-6)
    assert AutoTokenizer.from_pretrained(folder / "best").tokenize("who") == ["[UNK]"]
    assert "Trimmed to" in (folder / "best" / "README.md").read_text()

    written = (folder / "best" / "stage.json").stat().st_mtime_ns
    caplog.clear()
    again = run(read_recipe(recipe_file, trimmed_recipe))
    assert again[best]["trimmed"] == trimmed
    assert (folder / "best" / "stage.json").stat().st_mtime_ns == written
    assert "scoring" not in caplog.text
    # Back to the whole one, and to the trimmed one: no stage is trained again.
    whole = run(read_recipe(recipe_file, [*trimmed_recipe, "student.trim=null"]))
    assert "trimmed" not in whole[best]
    assert (folder / "best" / "model.safetensors").read_bytes() == (folder / best / "model.safetensors").read_bytes()
    assert not (folder / "best" / "trim.json").exists()
    again_on = {"task": "sequence_classification", "validation_file": recipe.task.validation_file}
    keys = [f"score_on.again.{key}={value}" for key, value in again_on.items()]
    scored = run(read_recipe(recipe_file, [*trimmed_recipe, *keys, "require=[best.again_accuracy >= 0]"]))
    assert scored[best]["trimmed"]["again_accuracy"] == trimmed["accuracy"]
    kept = run(read_recipe(recipe_file, [*trimmed_recipe, "keep=best"]))
    assert kept[best]["trimmed"] == trimmed
    assert run(read_recipe(recipe_file, [*trimmed_recipe, "keep=best"]))[best]["trimmed"] == trimmed
    assert (folder / "best" / "model.safetensors").is_file()
    assert main(["report", str(folder)]) == 0
    report = (folder / "report.md").read_text(encoding="utf-8")
    (line,) = [line for line in report.splitlines() if ", trimmed " in line and f"{trimmed['accuracy']:.2f}" in line]
    assert f"In best is {line.split('|')[1].strip()}" in report
    with pytest.raises(GateError, match=f"best.parameters < {trimmed['parameters']}"):
        run(
            read_recipe(
                recipe_file, [*trimmed_recipe, "keep=best", f"require=[best.parameters < {trimmed['parameters']}]"]
            )
        )


def test_texts_that_need_all_tokens_leave_the_student_as_it_is(
    recipe_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise InputError("texts: expected some that need fewer")

    monkeypatch.setattr("ted_distill.runs.trimming.choose_tokens", refuse)
    folder = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        results = run(read_recipe(recipe_file, [*SHORT, f"output_dir={folder}", "methods=[kd]", "student_trim=train"]))
    (best,) = [name for name, of in results.items() if of.get("best")]
    assert "trimmed" not in results[best]
    assert "the best student is left as it is (texts: expected some that need fewer)" in caplog.text
    assert (folder / "best" / "model.safetensors").read_bytes() == (folder / best / "model.safetensors").read_bytes()


def test_a_student_may_be_written_as_one_section(recipe_file: Path) -> None:
    one = read_recipe(
        recipe_file, ["output_dir=x", "student={layers: [2, 4], hidden_size: 8, narrow: truncated, trim: train}"]
    )
    flat = read_recipe(
        recipe_file,
        ["output_dir=x", "student=null", "student_layers=[2, 4]", "student_hidden_size=8", "student_narrow=truncated",
         "student_trim=train"],
    )  # fmt: skip
    assert one.run == flat.run
    assert one.content == flat.content
    with pytest.raises(InputError) as error:
        make_recipe(
            {**one.content, "student": {"layer": [2], "num_layers": 2}, "student_num_layers": 1, "student_trim": "val"}
        )
    assert error.value.problems[:2] == [
        "recipe: unknown key student.layer; did you mean layers?",
        "recipe: expected student.num_layers or student_num_layers, got both; remove one",
    ]
    assert any(
        problem.startswith("recipe: student_trim: expected one of train, got 'val'") for problem in error.value.problems
    )


def test_a_stream_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    file = write_recipe(tmp_path, "causal_lm")
    changes = ["streaming=true", "training.max_steps=2", "methods=[kd]", f"output_dir={tmp_path / 'run'}"]
    with pytest.raises(InputError, match="student_trim: expected training rows that end"):
        plan(read_recipe(file, [*changes, "student_trim=train"]), tokenise=False)


def test_a_language_model_is_refused_as_its_scores_are_of_tokens(tmp_path: Path) -> None:
    changes = ["methods=[kd]", f"output_dir={tmp_path / 'run'}", "student_trim=train"]
    with pytest.raises(InputError, match="student_trim: expected a task whose scores are not of tokens, got causal_lm"):
        plan(read_recipe(write_recipe(tmp_path, "causal_lm"), changes), tokenise=False)


def test_texts_without_labels_are_trained_on_and_so_are_their_tokens(recipe_file: Path, tmp_path: Path) -> None:
    task = load_task(read_recipe(recipe_file, ["output_dir=x"]).task)
    assert not any("Ada" in text for text in training_texts(task))
    more = write_text(tmp_path, 2)
    more = more.rename(tmp_path / "more.jsonl")
    more.write_text(json.dumps({"text": f"Ada {WORDS[0]}"}) + "\n")
    task = load_task(read_recipe(recipe_file, ["output_dir=x", f"unlabelled_file={more}"]).task)
    assert "Ada the" in training_texts(task)


class Prompted(SequenceClassification):
    """Puts words before every text that no text has."""

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        return super().encode(rows.map(lambda row: {"text": f"who cooked a song, Ada? {row['text']}"}), tokenizer)


class Titled(SequenceClassification):
    """Rows with texts in columns of other names."""

    def normalise(self, rows: Dataset, split: str) -> Dataset:
        return super().normalise(rows, split).rename_column("text", "title")

    def problems(self, rows: Dataset, split: str) -> Iterator[str]:
        yield from ()


@pytest.fixture
def own(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Changes to a recipe, for tasks of one's own."""
    monkeypatch.setitem(TASKS, "prompted", Prompted)
    monkeypatch.setitem(TASKS, "titled", Titled)
    return [*SHORT, f"output_dir={tmp_path / 'run'}", "methods=[kd]", "student_trim=train"]


def test_words_that_a_task_of_ones_own_adds_to_its_rows_are_kept(
    own: list[str], recipe_file: Path, tmp_path: Path
) -> None:
    recipe = read_recipe(recipe_file, [*own, "task=prompted"])
    planned = plan(recipe).trimmed
    results = run(recipe)
    (best,) = [name for name, of in results.items() if of.get("best")]
    assert planned == (results[best]["trimmed"]["tokens"], results[best]["trimmed"]["parameters"])
    assert results[best]["trimmed"]["tokens"] < 40
    task, tokenizers = (
        load_task(recipe.task),
        [AutoTokenizer.from_pretrained(tmp_path / "run" / n) for n in (best, "best")],
    )
    tokens = [
        [tokenizer.convert_ids_to_tokens(row) for row in task.encode(task.rows["train"], tokenizer)["input_ids"]]
        for tokenizer in tokenizers
    ]
    assert tokens[0] == tokens[1]
    assert "Ada" in tokens[1][0]


def test_a_student_that_would_read_the_rows_of_a_task_of_ones_own_otherwise_stays_whole(
    own: list[str], recipe_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ted_distill.runs.trimming.own_tokens", lambda task, tokenizer: set())
    run(read_recipe(recipe_file, [*own, "task=prompted"]))
    assert (
        "the best student is left as it is (nothing was published: expected the same tokens of all rows" in caplog.text
    )
    assert not (tmp_path / "run" / "best" / "trim.json").exists()


def test_a_task_that_names_no_columns_of_text_is_refused_before_anything_is_trained(
    own: list[str], recipe_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"student_trim: expected a task that names columns .* define text_columns"):
        run(read_recipe(recipe_file, [*own, "task=titled"]))
    assert not (tmp_path / "run").exists()


def test_results_are_written_also_where_the_best_student_cannot_be(
    own: list[str], recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise ValueError("unexpected")

    monkeypatch.setattr("ted_distill.runs.run.publish_trimmed_best", fail)
    with pytest.raises(ValueError, match="unexpected"):
        run(read_recipe(recipe_file, own))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "accuracy" in results["kd"]
    assert not any(of.get("best") for of in results.values())
