"""`learning_rate: auto`: the rate that a part of the training rows, held out, speaks for."""

from __future__ import annotations

import importlib
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from quick_stages import LABELS, quick_arguments, reviews_task
from small_runs import Cut
from ted_distill import DistillArguments, StageArguments, distill, finetune
from ted_distill.errors import InputError, NotFiniteError, TrainingError
from ted_distill.models.load import load_model
from ted_distill.stages import rate_search
from ted_distill.training.scores.selection import shown_scores
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny

# The package has a function of that name.
distill_stage = importlib.import_module("ted_distill.stages.distill")

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "m", AutoModelForSequenceClassification, blocks=2, **LABELS)


def arguments(folder: Path, **changes: Any) -> StageArguments:
    searched = {"per_device_train_batch_size": 4, "num_train_epochs": 4, "learning_rate": "auto"}
    return quick_arguments(folder, **(searched | changes))


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int, int]]:
    """(learning rate, updates, rows to train on) of every training, in order."""
    found: list[tuple[float, int, int]] = []
    fit = StageTrainer.fit

    def remember(self: StageTrainer) -> dict[str, Any]:
        outcome = fit(self)
        found.append((float(self.args.learning_rate), self.state.max_steps, len(self.train_dataset)))
        return outcome

    monkeypatch.setattr(StageTrainer, "fit", remember)
    return found


def test_five_rates_train_a_tenth_two_of_them_three_tenths_and_one_everything(
    model: Path, tmp_path: Path, trials: list[tuple[float, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StageTrainer, "seconds", 2.0)
    results = finetune(model, reviews_task(tmp_path, 60), arguments(tmp_path / "out"))
    rates = [rate for rate, _, _ in trials]
    assert [updates for _, updates, _ in trials] == [6, 6, 6, 6, 6, 16, 16, 60]
    assert [rows for *_, rows in trials] == [51] * 7 + [60]
    assert rates[:5] == pytest.approx([rates[2] * factor for factor in (0.25, 0.5, 1, 2, 4)])
    record = results["rate_search"]
    assert list(record) == ["10%", "30%"]
    best_two = sorted(record["10%"], key=record["10%"].get, reverse=True)[:2]
    assert {float(rate) for rate in record["30%"]} == {*rates[5:7]}
    assert record["10%"][f"{rates[5]:g}"] == record["10%"][best_two[0]]
    assert results["learning_rate"] == rates[7] == float(max(record["30%"], key=record["30%"].get))
    assert json.loads((tmp_path / "out" / "all_results.json").read_text())["rate_search"] == record
    assert not (tmp_path / "out" / "rate-search").exists()
    assert (results["seconds"], results["search_seconds"]) == (2, 7 * 2)
    assert "search_seconds" not in shown_scores(results)


@pytest.mark.parametrize("method", ["alone", "lwd"])
def test_a_rate_that_was_found_trains_as_the_same_rate_given(
    model: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = save_tiny(tmp_path / "s", AutoModelForSequenceClassification, blocks=1, width=8, seed=1, **LABELS)
    rows = reviews_task(tmp_path, 60)

    monkeypatch.setattr(rate_search, "RUNGS", ((3, 0.2),))

    def train(folder: str, rate: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        args = arguments(tmp_path / folder, learning_rate=rate, num_train_epochs=2)
        results = distill(model, student, rows, args, DistillArguments(method))
        return results, AutoModelForSequenceClassification.from_pretrained(tmp_path / folder).state_dict()

    results, found = train("auto", "auto")
    _, given = train("given", results["learning_rate"])
    assert all(torch.equal(found[name], given[name]) for name in given)


def test_a_trial_has_the_memory_to_itself(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[torch.nn.Module]] = []
    before: list[int] = []
    load = distill_stage.load_model

    def count(*given: Any, **options: Any) -> Any:
        before.append(sum(made() is not None for made in alive))
        loaded = load(*given, **options)
        alive.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(distill_stage, "load_model", count)
    monkeypatch.setattr(rate_search, "RUNGS", ((2, 0.2),))
    student = save_tiny(tmp_path / "s", AutoModelForSequenceClassification, blocks=1, seed=1, **LABELS)
    args = arguments(tmp_path / "out", num_train_epochs=2)
    results = distill(model, student, reviews_task(tmp_path, 60), args, DistillArguments("lwd"))
    # Teacher and student: to open the stage, for each of two trials, and for the training.
    assert before == [0, 1] * 4
    # What the student was before it was trained is known.
    descended = json.loads((tmp_path / "out" / "stage.json").read_text())["ancestry"]
    assert descended[0] == load_model(student, reviews_task(tmp_path, 60)).identity["backbone"]
    assert results["learning_rate"] > 0


def test_a_search_that_was_cut_off_goes_on_after_the_last_trial(
    model: Path, tmp_path: Path, trials: list[tuple[float, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_search, "RUNGS", ((4, 0.1), (2, 0.3)))
    rows = reviews_task(tmp_path, 44)
    fit = StageTrainer.fit

    def cut(self: StageTrainer) -> dict[str, Any]:
        if len(trials) == 3:
            raise Cut
        return fit(self)

    with monkeypatch.context() as patch:
        patch.setattr(StageTrainer, "fit", cut)
        patch.setattr(StageTrainer, "seconds", 1.0)
        with pytest.raises(Cut):
            finetune(model, rows, arguments(tmp_path / "out"))
    assert len(trials) == 3
    monkeypatch.setattr(StageTrainer, "seconds", 2.0)
    resumed = finetune(model, rows, arguments(tmp_path / "out"))
    assert len(trials) == 7
    assert resumed["search_seconds"] == 3 * 1 + 3 * 2, "those before the cut count too"
    whole = finetune(model, rows, arguments(tmp_path / "whole"))
    assert resumed["rate_search"] == whole["rate_search"]
    assert resumed["learning_rate"] == whole["learning_rate"]


def test_a_rate_with_which_the_loss_explodes_is_left_out(
    model: Path, tmp_path: Path, trials: list[tuple[float, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = StageTrainer.fit

    def explode(self: StageTrainer) -> dict[str, Any]:
        if float(self.args.learning_rate) > 5e-4:
            raise NotFiniteError("the loss is not finite")
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", explode)
    monkeypatch.setattr(rate_search, "FACTORS", (0.1, 1.0, 4.0))
    results = finetune(model, reviews_task(tmp_path, 60), arguments(tmp_path / "out"))
    assert list(results["rate_search"]["10%"]) == ["0.0001"]
    assert results["learning_rate"] == 1e-4


def test_where_the_best_rates_fail_later_the_next_ones_are_tried_longer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, longer = StageTrainer.fit, []

    def fails(self: StageTrainer) -> dict[str, Any]:
        if "rate-search/30-" in str(self.args.output_dir):
            longer.append(float(self.args.learning_rate))
            if len(longer) <= 2:
                raise NotFiniteError("the loss is NaN")
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", fails)
    results = finetune(model, reviews_task(tmp_path, 60), arguments(tmp_path / "out"))
    assert len(longer) == len(set(longer)) == 4
    assert [*results["rate_search"]["30%"]] == [f"{rate:g}" for rate in longer[2:]]
    assert results["learning_rate"] in longer[2:]


@pytest.mark.parametrize("kind", ["greedy", "reduce_lr_on_plateau"])
def test_a_schedule_that_follows_scores_is_refused(model: Path, tmp_path: Path, kind: str) -> None:
    scored = {"eval_strategy": "epoch", "metric_for_best_model": "accuracy", "lr_scheduler_type": kind}
    with pytest.raises(InputError, match=rf"lr_scheduler_type: expected a schedule that short trials have.*got {kind}"):
        finetune(model, reviews_task(tmp_path, 60), arguments(tmp_path / "out", **scored))


def test_too_few_rows_to_hold_some_out_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"learning_rate: expected at least 40 rows to train on for auto.* got 20"):
        finetune(model, reviews_task(tmp_path, 20), arguments(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_trial_that_stops_for_another_reason_stops_the_search(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: StageTrainer) -> dict[str, Any]:
        raise TrainingError("the disk is full")

    monkeypatch.setattr(StageTrainer, "fit", full)
    with pytest.raises(TrainingError, match="the disk is full"):
        finetune(model, reviews_task(tmp_path, 60), arguments(tmp_path / "out"))


def test_counts_of_updates_of_a_schedule_shrink_with_the_trial(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decays: list[tuple[int, int]] = []
    fit = StageTrainer.fit

    def remember(self: StageTrainer) -> dict[str, Any]:
        outcome = fit(self)
        decays.append((self.state.max_steps, self.args.lr_scheduler_kwargs["num_decay_steps"]))
        return outcome

    monkeypatch.setattr(StageTrainer, "fit", remember)
    stable = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 10}}
    args = arguments(tmp_path / "out", max_steps=20, **stable)
    finetune(model, reviews_task(tmp_path, 60), args)
    assert decays == [(2, 1)] * 5 + [(6, 3)] * 2 + [(20, 10)]
    assert args.lr_scheduler_kwargs == {"num_decay_steps": 10}


def test_no_model_of_a_trial_stays_while_the_stage_is_trained(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[list[str]] = []
    fit = StageTrainer.fit

    def look(self: StageTrainer) -> dict[str, Any]:
        left.append(sorted(file.name for file in (tmp_path / "out").rglob("model.safetensors")))
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", look)
    finetune(model, reviews_task(tmp_path, 60), arguments(tmp_path / "out", keep_checkpoints=True))
    assert left == [[]] * 8
    assert not (tmp_path / "out" / "rate-search").exists()
    assert list((tmp_path / "out").glob("checkpoint-*"))
