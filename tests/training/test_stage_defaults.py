"""Learning rate and length of a stage for those who set neither."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, BertConfig, PretrainedConfig

from ted_distill import StageArguments, TaskArguments, load_task
from ted_distill.errors import InputError
from ted_distill.training.new_heads import start_at_the_mean
from ted_distill.training.stage_defaults import DISTILL, FINETUNE, learn_filters_defaults, refuse_search
from tiny import tiny_config


@pytest.mark.parametrize(("width", "rate"), [(384, 1e-4), (768, 2.5e-5), (192, 4e-4), (16, 1e-3)])
def test_wider_models_get_a_lower_rate_and_narrow_ones_no_more_than_a_thousandth(width: int, rate: float) -> None:
    assert FINETUNE.rate_of(BertConfig(hidden_size=width)) == pytest.approx(rate)


@pytest.mark.parametrize(("width", "rate"), [(384, 5e-4), (768, 1.25e-4), (256, 5e-4), (16, 5e-4)])
def test_a_narrow_student_gets_the_rate_of_one_384_wide(width: int, rate: float) -> None:
    assert DISTILL.rate_of(BertConfig(hidden_size=width)) == pytest.approx(rate)


def test_what_is_set_stays_and_what_is_not_is_filled_in(tmp_path: Path) -> None:
    config = BertConfig(hidden_size=768)
    given = FINETUNE.fill(StageArguments(str(tmp_path), learning_rate=1e-5, num_train_epochs=7), config)
    assert (given.learning_rate, given.num_train_epochs) == (1e-5, 7)
    args = StageArguments(str(tmp_path))
    filled = FINETUNE.fill(args, config)
    assert (filled.learning_rate, filled.num_train_epochs) == (2.5e-5, 3)
    assert args.learning_rate is None


def test_a_model_without_a_width_counts_as_one_of_the_usual_width() -> None:
    assert FINETUNE.rate_of(PretrainedConfig()) == 2.5e-5


def test_filters_get_the_same_rate_at_any_width_and_epochs_by_what_an_epoch_costs() -> None:
    rows, tokens, text = (learn_filters_defaults(*flags) for flags in ((True, False), (False, False), (False, True)))
    assert rows.rate_of(BertConfig(hidden_size=1024)) == 1e-3
    assert (rows.epochs, tokens.epochs, text.epochs) == (20, 5, 1)


def test_a_search_for_the_rate_of_filters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="learning_rate: expected a number for Stage I"):
        refuse_search(StageArguments(str(tmp_path), learning_rate="auto"))


@pytest.mark.parametrize("rate", ["fast", -1, 0])
def test_a_rate_is_a_number_above_0_or_the_word_auto(tmp_path: Path, rate: object) -> None:
    with pytest.raises(InputError, match="learning_rate: expected a number above 0 and at most 10, or auto, got"):
        StageArguments(str(tmp_path), learning_rate=rate)


@pytest.mark.parametrize(("updates", "share", "warmup"), [(1, 0.06, 0), (16, 0.06, 0), (17, 0.06, 1), (100, 0.5, 50)])
def test_a_share_of_warm_up_is_rounded_down_so_that_a_single_update_trains(
    tmp_path: Path, updates: int, share: float, warmup: int
) -> None:
    assert StageArguments(str(tmp_path), warmup_steps=share).get_warmup_steps(updates) == warmup


def test_whole_numbers_of_warm_up_stay(tmp_path: Path) -> None:
    assert StageArguments(str(tmp_path), warmup_steps=3).get_warmup_steps(2) == 3


def test_a_new_head_of_a_regression_starts_at_the_mean_score_and_one_that_was_trained_stays(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"text": "a good film", "label": score}) for score in (1.0, 2.0, 4.5)))
    task = load_task(TaskArguments("regression", train_file=str(file)))
    model = AutoModelForSequenceClassification.from_config(tiny_config("bert", num_labels=1))
    start_at_the_mean(model, (), task)
    assert float(model.classifier.bias.detach()) == 0
    start_at_the_mean(model, ("classifier.weight", "classifier.bias"), task)
    assert float(model.classifier.bias.detach()) == 2.5
