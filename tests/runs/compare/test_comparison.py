"""`ted compare` on tiny models: what is shared, what is chosen, and that it goes on where it was."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ted_distill import TaskArguments, compare, evaluate, load_task
from ted_distill.errors import GateError, InputError
from ted_distill.runs import steps
from ted_distill.runs.compare.search import _folder_names
from ted_distill.runs.compare.verdicts import page
from tiny import save_tiny, write_reviews


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Keys of a recipe of all stages."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "task": "sequence_classification",
        "train_file": str(write_reviews(folder, 48, "train")),
        "validation_file": str(write_reviews(folder, 20, "validation")),
        "teacher": str(save_tiny(folder / "big", load_task("sequence_classification").auto_model, "bert", blocks=2)),
        "student_layers": [2],
        "methods": ["kd", "ted"],
        "learn_filters": {"num_train_epochs": 1},
        "training": {"num_train_epochs": 1, "learning_rate": 1e-3, "use_cpu": True, "disable_tqdm": True},
    }


def test_seeds_share_all_but_the_methods_and_more_can_be_added(content: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**content, "output_dir": str(tmp_path)}
    first = compare(recipe, 1, resamples=240)
    shared = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.safetensors")}
    assert first["verdicts"][-1].startswith("One seed can hardly ever tell methods apart")
    found = compare(recipe, 2, resamples=240)
    assert all(file.stat().st_mtime_ns == then for file, then in shared.items()), "nothing was made again"
    assert found["seeds"] == [1, 2]
    assert found["scores"]["ted"][0] == first["scores"]["ted"][0]
    made = {file.parent.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("model.safetensors")}
    of_seeds = {f"compare/seed-{seed}/{method}" for seed in (1, 2) for method in ("alone", "kd", "ted")}
    assert made == {"teacher", "student_init", "teacher_filters", *of_seeds}
    assert not (tmp_path / "states-cache").exists()


@pytest.mark.long
def test_what_is_written_is_what_is_returned_and_agrees_with_the_predictions(
    content: dict[str, Any], tmp_path: Path
) -> None:
    found = compare({**content, "methods": ["kd"], "output_dir": str(tmp_path)}, 2, resamples=240)
    folder = tmp_path / "compare"
    assert json.loads((folder / "compare.json").read_text(encoding="utf-8")) == json.loads(json.dumps(found))
    assert (folder / "compare.md").read_text(encoding="utf-8") == page(found) + "\n"
    of_seeds = []
    for seed in (1, 2):
        results = json.loads((folder / f"seed-{seed}" / "kd" / "all_results.json").read_text(encoding="utf-8"))
        of_seeds.append(results["accuracy"])
        assert results["chosen_by"] is None, "the last weights are the result"
    assert [scores["accuracy"] for scores in found["scores"]["kd"]] == pytest.approx(of_seeds)
    assert found["means"]["kd"] == pytest.approx(np.mean(of_seeds))
    (pair,) = found["comparisons"]
    assert {pair["better"], pair["worse"]} == {"alone", "kd"}


def test_settings_are_chosen_on_rows_held_out_with_the_same_grid_for_all(
    content: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {**content, "output_dir": str(tmp_path)}
    found = compare(recipe, 1, {"mse_alpha": [1, 10], "learning_rate": [1e-3, 1e-9]}, resamples=240)
    tried = {name: len(scores) for name, scores in found["search"]["scores"].items()}
    assert tried == {"alone": 2, "kd": 2, "ted": 4}
    assert found["search"]["rows"] == 7
    for name, scores in found["search"]["scores"].items():
        chosen = " ".join(f"{key}={value}" for key, value in found["chosen"][name].items())
        assert scores[chosen] == max(scores.values())
        section = yaml.safe_load((tmp_path / "compare" / "seed-1" / "recipe.yaml").read_text())[name]
        assert found["chosen"][name].items() <= section.items()
    trial = json.loads((tmp_path / "compare" / "search" / "teacher" / "all_results.json").read_text())
    assert trial["scored_on"]["validation"]["rows"] == 7, "the teacher of the search never saw the rows that choose"
    assert "The teacher was given" not in (tmp_path / "compare" / "compare.md").read_text()
    trained = {folder.parent.name for folder in (tmp_path / "compare" / "search").glob("*/*/model.safetensors")}
    assert trained == {"alone", "kd", "ted"}
    assert len([*(tmp_path / "compare" / "search").glob("*/*/model.safetensors")]) == 8, "a trial trains one method"


def test_a_method_without_a_choice_is_not_trained_to_make_it(content: dict[str, Any], tmp_path: Path) -> None:
    """Values may be an array, and two of them may look alike in the name of a folder."""
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path)}
    found = compare(recipe, 1, {"kl_alpha": np.array([1, 2])}, resamples=240)
    assert found["search"]["scores"].keys() == {"kd"}
    assert found["chosen"]["alone"] == {}
    trained = sorted(folder.parent.name for folder in (tmp_path / "compare" / "search").glob("*/*/model.safetensors"))
    assert trained == ["kd", "kd"]
    (said,) = re.findall("Settings chosen on .*", (tmp_path / "compare" / "compare.md").read_text())
    assert "alone" not in said


def test_trials_are_not_scored_on_further_data(content: dict[str, Any], tmp_path: Path) -> None:
    entry = {"task": "sequence_classification", "validation_file": content["validation_file"]}
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path), "score_on": {"more": entry}}
    found = compare(recipe, 1, {"kl_alpha": [1, 2]}, resamples=240)
    assert "more_accuracy" in found["further"]["kd"][0]
    scored = {file.parent.parent for file in tmp_path.rglob("scores/*_more.json")}
    assert scored == {tmp_path, tmp_path / "compare" / "seed-1"}


@pytest.mark.parametrize(
    ("own", "grid", "said"),
    [
        ({"training": {"train_sampling_strategy": "sequential"}}, {}, "each seed of alone and kd, got 'sequential'"),
        ({"kd": {"data_seed": 1}}, {}, "data_seed: expected rows in another order for each seed of kd, got 1, which"),
        ({}, {"data_seed": [1, 2]}, "data_seed: expected rows in another order for each seed of alone and kd, got 1"),
    ],
)
def test_seeds_that_all_have_the_rows_in_one_order_are_refused(
    own: dict[str, Any], grid: dict[str, Any], said: str, content: dict[str, Any], tmp_path: Path
) -> None:
    training = content["training"] | own.get("training", {})
    recipe = {**content, **own, "training": training, "methods": ["kd"], "output_dir": str(tmp_path)}
    with pytest.raises(InputError, match=f"{said}.*; leave it out, or give --seeds 1"):
        compare(recipe, 2, grid)
    assert [*tmp_path.rglob("*")] == []


def test_a_grid_without_what_finished_seeds_hold_is_refused_before_it_is_searched(
    content: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path)}
    compare(recipe, 1, resamples=240)
    search = tmp_path / "compare" / "search"
    with pytest.raises(InputError, match=r"has, got none: with kl_alpha=3, output_dir: .* kl_alpha was 1\.0, now 3\.0"):
        compare(recipe, 1, {"kl_alpha": [3, 2]}, resamples=240)
    longer = {**content["training"], "num_train_epochs": 2}
    with pytest.raises(InputError) as refused:
        compare({**recipe, "training": longer}, 1, {"kl_alpha": [1, 2]}, resamples=240)
    said = str(refused.value)
    named = " ".join(re.findall(r"expected (?:each of )?(.*?) to be free", said))
    assert [f"/{name}" in named for name in ("teacher", "alone", "kd")] == [True] * 3
    assert named.count("/teacher") == 1
    assert not search.exists()
    caplog.clear()
    for _ in range(2):  # it is said before the search, and not once that is there
        compare(recipe, 1, {"kl_alpha": [1, 1.0, 3], "learning_rate": [1e-3]}, resamples=240)
    assert caplog.text.count("expected the choice for kd to be kl_alpha=1 learning_rate=0.001 and kl_alpha=1.0") == 1


def test_trials_have_a_folder_each() -> None:
    tried = [("kd", {"kl_alpha": value}) for value in ("1e+2", "1e-2", "1e 2", "1e/2")]
    names = _folder_names(tried)
    assert len({*names}) == 4
    assert "kd-kl_alpha=1e+2" in names


def test_every_trial_is_planned_before_the_first_is_trained(content: dict[str, Any], tmp_path: Path) -> None:
    """A value may be right for the recipe, and wrong for these models."""
    recipe = {**content, "methods": ["attention"], "output_dir": str(tmp_path)}
    with pytest.raises(InputError, match=r"trying attention_pair=9:1: attention_pair: expected a block .* to 2, got 9"):
        compare(recipe, 1, {"attention_pair": ["2:1", "9:1"]})
    assert not [*tmp_path.rglob("model.safetensors")]


def test_a_given_teacher_may_have_more_labels_than_the_data_also_where_rows_are_held_out(
    content: dict[str, Any], tmp_path: Path
) -> None:
    seen = load_task(TaskArguments("sequence_classification", train_file=content["train_file"])).label_names
    labels = dict(enumerate([*reversed(seen), "other"]))
    given = {"id2label": labels, "label2id": {name: number for number, name in labels.items()}}
    teacher = save_tiny(tmp_path / "given", load_task("sequence_classification").auto_model, "bert", blocks=2, **given)
    own = {"teacher": str(teacher), "finetune_teacher": False, "methods": ["kd"], "output_dir": str(tmp_path / "run")}
    found = compare({**content, **own}, 1, {"learning_rate": [1e-3, 1e-9]}, resamples=240)
    assert found["search"]["rows"] == 7
    assert "The teacher was given, and may have been trained on" in (tmp_path / "run/compare/compare.md").read_text()
    configs = list((tmp_path / "run").rglob("kd/config.json"))
    assert len(configs) == 3
    for file in configs:
        config = json.loads(file.read_text(encoding="utf-8"))
        assert sorted(config["label2id"]) == sorted(labels.values())


@pytest.mark.long
def test_a_cut_off_comparison_goes_on_and_ends_the_same(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {**content, "methods": ["kd"]}
    whole = compare({**recipe, "output_dir": str(tmp_path / "whole")}, 2, resamples=240)
    kept = steps.kept_predictions

    def cut(folder: Path, *others: Any) -> Any:
        if "seed-2" in str(folder):
            raise KeyboardInterrupt
        return kept(folder, *others)

    monkeypatch.setattr(steps, "kept_predictions", cut)
    with pytest.raises(KeyboardInterrupt):
        compare({**recipe, "output_dir": str(tmp_path / "cut")}, 2, resamples=240)
    monkeypatch.undo()
    found = compare({**recipe, "output_dir": str(tmp_path / "cut")}, 2, resamples=240)
    assert {**found, "seconds": 0} == {**whole, "seconds": 0}


def test_what_cannot_be_searched_is_refused_before_anything_is_trained(content: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path)}
    for grid, message in (
        ({"mse_alpa": [1]}, "expected keys of Stage II, got mse_alpa; did you mean mse_alpha"),
        ({"mse_alpha": [1]}, "mse_alpha means nothing to alone, kd"),
        ({"kl_alpha": 1}, r"expected a list of values of kl_alpha, got 1; write \[1\]"),
        ({"kl_alpha": "1,10"}, "expected a list of values of kl_alpha, got '1,10'"),
        ({"kl_alpha": []}, "expected values of kl_alpha to try, got none"),
        ({"kl_alpha": [1, -5]}, "kl_alpha: expected"),
        ({"metric_for_best_model": ["accuracy", "f1_macro"]}, "got metric_for_best_model, which says what"),
    ):
        with pytest.raises(InputError, match=message):
            compare(recipe, 1, grid)
    with pytest.raises(InputError, match="seeds: expected a whole number of at least 1, got 0"):
        compare(recipe, 0)
    assert [*tmp_path.rglob("*")] == []


def test_a_folder_of_something_else_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "recipe.yaml").write_text("mine: 1\n", encoding="utf-8")
    with pytest.raises(InputError, match="no comparison wrote"):
        compare({**content, "output_dir": str(tmp_path)}, 1)


def test_requirements_are_on_the_means(content: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path), "require": ["kd.accuracy > 100"]}
    with pytest.raises(GateError, match=r"does not hold: kd\.accuracy > 100") as failed:
        compare(recipe, 1, resamples=240)
    written = json.loads((tmp_path / "compare" / "compare.json").read_text())
    assert failed.value.results["verdicts"] == written["verdicts"]


def test_all_seeds_that_were_made_with_other_settings_are_named_at_once(
    content: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path / "run")}
    compare(recipe, 2, resamples=240)
    recorded = (tmp_path / "run" / "compare" / "recipe.yaml").read_text(encoding="utf-8")
    with pytest.raises(InputError) as refused:
        compare({**recipe, "kd": {"learning_rate": 0.0123}}, 3, resamples=240)
    assert (tmp_path / "run" / "compare" / "recipe.yaml").read_text(encoding="utf-8") == recorded
    assert [f"seed-{seed}" in str(refused.value) for seed in (1, 2, 3)] == [True, True, False]
    assert len(refused.value.problems) == 2


def test_a_requirement_may_be_on_the_sizes_and_seconds_of_the_table(content: dict[str, Any], tmp_path: Path) -> None:
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path / "run")}
    [seconds] = compare(recipe, 1, resamples=240)["seconds"]["kd"]
    holds = ["kd.parameters < teacher.parameters", f"kd.seconds <= {seconds}"]
    compare({**recipe, "require": holds}, 1, resamples=240)
    with pytest.raises(GateError, match=r"does not hold: kd\.seconds > "):
        compare({**recipe, "require": [f"kd.seconds > {seconds}"]}, 1, resamples=240)
    with pytest.raises(InputError, match="expected seconds of a method in a comparison, got those of teacher"):
        compare({**recipe, "require": ["kd.seconds < teacher.seconds"]}, 1, resamples=240)


def test_further_data_are_scored_by_every_seed_and_may_be_required(
    content: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With test rows too, whose scores a run calls `test_accuracy`."""
    rows = {name: str(write_reviews(tmp_path, 12, name)) for name in ("test", "more")}
    recipe = {
        **content, "methods": ["kd"], "output_dir": str(tmp_path / "run"), "test_file": rows["test"],
        "score_on": {"more": {"task": "sequence_classification", "validation_file": rows["more"]}}, "keep": "best",
    }  # fmt: skip
    holds = [
        "kd.more_accuracy > -1", "kd.more_accuracy <= teacher.more_accuracy + 100", "kd.test_accuracy > -1",
        "kd.accuracy > -1",
    ]  # fmt: skip
    found = compare({**recipe, "require": holds}, np.int64(2), resamples=240)
    assert found["split"] == "test"
    for seed in (1, 2):
        folder = tmp_path / "run" / "compare" / f"seed-{seed}" / "kd"
        again = evaluate(folder, load_task(TaskArguments("sequence_classification", validation_file=rows["more"])))
        assert found["further"]["kd"][seed - 1]["more_accuracy"] == pytest.approx(again["accuracy"])
    mean = np.mean([one["more_accuracy"] for one in found["further"]["kd"]])
    line = next(line for line in page(found).rpartition("On further data")[2].splitlines() if line.startswith("| KD"))
    assert f" {mean:.2f} (sd " in line
    assert "keep: best: left out, as a comparison keeps all its models" in caplog.text
    assert caplog.text.count("require: accuracy is that of the test rows in a comparison") == 1
    with pytest.raises(GateError, match=r"kd\.more_accuracy > 100"):
        compare({**recipe, "require": ["kd.more_accuracy > 100"]}, 2, resamples=240)


def test_further_data_may_hold_rows_of_one_class(content: dict[str, Any], tmp_path: Path) -> None:
    """As in a run: their labels are those of the run's data."""
    lines = write_reviews(tmp_path, 12).read_text().splitlines(keepends=True)
    (tmp_path / "good.jsonl").write_text("".join(lines[1::2]))
    entry = {"task": "sequence_classification", "validation_file": str(tmp_path / "good.jsonl")}
    recipe = {**content, "methods": ["kd"], "output_dir": str(tmp_path / "run"), "score_on": {"good": entry}}
    found = compare(recipe, 1, resamples=240)
    assert 0 <= found["further"]["kd"][0]["good_accuracy"] <= 100
