"""Filters that start from what the models compute: scaled ones in Stage I, least squares in Stage II."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from quick_stages import LABELS, quick_arguments, reviews_task
from small_runs import cut_off_at
from ted_distill import (
    DistillArguments,
    LearnFiltersArguments,
    StageArguments,
    Task,
    distill,
    learn_filters,
)
from ted_distill.errors import InputError
from ted_distill.method.filter_files import load_filters
from ted_distill.method.filters import Filters
from ted_distill.stages import DistillTrainer, LearnFiltersTrainer
from ted_distill.training.trainer import StageTrainer
from tiny import save_tiny

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return reviews_task(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher of 4 blocks and a narrower student of 2."""
    root = tmp_path_factory.mktemp("models")
    return {
        "teacher": save_tiny(root / "teacher", AutoModelForSequenceClassification, blocks=4, **LABELS),
        "student": save_tiny(root / "student", AutoModelForSequenceClassification, blocks=2, width=8, seed=1, **LABELS),
    }


def arguments(folder: Path, **changes: Any) -> StageArguments:
    return quick_arguments(folder, **({"num_train_epochs": 1} | changes))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[StageTrainer]:
    """Copies of the trainers as they are before their training."""
    found: list[StageTrainer] = []
    fit = StageTrainer.fit

    def remember(self: StageTrainer) -> dict[str, Any]:
        self.filters_before = copy.deepcopy(
            (self.model.filtered if hasattr(self.model, "filtered") else self.model).filters
        )
        found.append(self)
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", remember)
    return found


def real_states(trainer: StageTrainer, model: Any, filters: Filters) -> list[np.ndarray]:
    """(N, F) states after filters of all real tokens of the training rows."""
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(len(trainer.train_dataset))])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        hidden = model.eval()(**inputs, output_hidden_states=True).hidden_states
        states = filters([hidden[block] for block in filters.blocks])
    return [of_block[batch["attention_mask"] != 0].double().numpy() for of_block in states]


def test_scaled_filters_start_with_states_of_mean_0_and_mean_variance_1(
    models: dict[str, Path], reviews: Task, tmp_path: Path, started: list[StageTrainer]
) -> None:
    learn_filters(
        models["teacher"],
        reviews,
        arguments(tmp_path),
        LearnFiltersArguments(filter_blocks=[2, 4], filter_init="scaled"),
    )
    (trainer,) = started
    assert isinstance(trainer, LearnFiltersTrainer)
    for states in real_states(trainer, trainer.model.filtered.model, trainer.filters_before):
        np.testing.assert_allclose(states.mean(axis=0), np.zeros(16), atol=1e-5)
        assert states.var(axis=0).mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", [{"filter_nonlinear": True}, {"filter_output_dim": 17}])
def test_a_scaled_start_of_filters_that_cannot_have_one_is_refused(
    models: dict[str, Path], reviews: Task, tmp_path: Path, shape: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="filter_init: expected linear filters of at most the model's width, 16"):
        learn_filters(
            models["teacher"], reviews, arguments(tmp_path), LearnFiltersArguments(filter_init="scaled", **shape)
        )


@pytest.mark.parametrize("method", ["lwd", "ted"])
def test_least_squares_filters_leave_the_residual_of_ridge_regression(
    models: dict[str, Path], reviews: Task, tmp_path: Path, started: list[StageTrainer], method: str
) -> None:
    teacher = models["teacher"]
    if method == "ted":
        teacher = tmp_path / "teacher"
        learn_filters(models["teacher"], reviews, arguments(teacher), LearnFiltersArguments(filter_blocks=[2, 4]))
    settings = DistillArguments(method, student_filters="least_squares", layer_loss="normalized_mse", mse_alpha=10.0)
    distill(
        teacher,
        models["student"],
        reviews,
        arguments(tmp_path / "out", save_strategy="no", eval_strategy="no"),
        settings,
    )
    trainer = started[-1]
    assert isinstance(trainer, DistillTrainer)
    before = AutoModelForSequenceClassification.from_pretrained(models["student"])
    own = real_states(trainer, before, Filters.identity([1, 2]))
    theirs = real_states(trainer, trainer.teacher.model, trainer.teacher.filters)
    for x, y, filter_ in zip(own, theirs, trainer.filters_before.filters, strict=True):
        centred, targets = x - x.mean(axis=0), y - y.mean(axis=0)
        penalty = 1e-2 * x.var(axis=0).mean() * len(x) * np.eye(8)
        weight = np.linalg.solve(centred.T @ centred + penalty, centred.T @ targets).T
        np.testing.assert_allclose(filter_.weight.detach(), weight, atol=1e-4)
        np.testing.assert_allclose(filter_.bias.detach(), y.mean(axis=0) - weight @ x.mean(axis=0), atol=1e-4)


def test_a_stage_with_least_squares_that_is_cut_off_ends_with_the_same_weights(
    models: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    def train(folder: Path) -> dict[str, torch.Tensor]:
        settings = DistillArguments("lwd", student_filters="least_squares", student_dropout=False)
        distill(models["teacher"], models["student"], reviews, arguments(folder, num_train_epochs=2), settings)
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        return {**model.state_dict(), **load_filters(folder, model).state_dict()}

    whole = train(tmp_path / "whole")
    with cut_off_at(4):
        train(tmp_path / "cut")
    resumed = train(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_student_without_dropout_is_saved_with_the_config_it_had(
    models: dict[str, Path], reviews: Task, tmp_path: Path, started: list[StageTrainer]
) -> None:
    distill(
        models["teacher"],
        models["student"],
        reviews,
        arguments(tmp_path),
        DistillArguments("kd", student_dropout=False),
    )
    rates = [module.p for module in started[0].model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates
    assert not any(rates)
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path).config.hidden_dropout_prob == 0.1


def test_filters_that_were_learnt_are_no_start_of_plain_layer_wise_distillation(
    models: dict[str, Path], reviews: Task, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match="student_filters: expected least_squares or random with method lwd, got learned"
    ):
        distill(
            models["teacher"],
            models["student"],
            reviews,
            arguments(tmp_path),
            DistillArguments("lwd", student_filters="learned"),
        )


def test_filters_that_stage_two_left_beside_a_student_are_not_those_of_a_stage_one(
    reviews: Task, models: dict[str, Path], tmp_path: Path, started: list[StageTrainer]
) -> None:
    """They were fitted to states of another method, and would start further away than nothing at all."""
    distill(models["teacher"], models["student"], reviews, arguments(tmp_path / "lwd"), DistillArguments("lwd"))
    learn_filters(models["teacher"], reviews, arguments(tmp_path / "filters"), LearnFiltersArguments(2))

    def start(name: str, **settings: Any) -> torch.Tensor:
        args = arguments(tmp_path / name)
        distill(tmp_path / "filters", tmp_path / "lwd", reviews, args, DistillArguments("ted", **settings))
        return torch.cat([weight.flatten() for weight in started[-1].filters_before.parameters()])

    default = start("default")
    assert torch.equal(default, start("fitted", student_filters="least_squares"))
    assert not torch.equal(default, start("named", student_filters=str(tmp_path / "lwd")))
