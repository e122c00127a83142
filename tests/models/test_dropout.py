"""A model whose dropout is turned off trains as it predicts."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    FalconConfig,
    PersimmonConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from ted_distill.fast.dropout import use_fast_dropout
from ted_distill.models.dropout import turn_off_dropout
from tiny import DECODERS, FAMILIES, tiny_config

BATCH = {"input_ids": torch.tensor([[1, 5, 6, 7, 2], [1, 8, 9, 2, 0]]), "attention_mask": torch.ones(2, 5).long()}


def noisy_model(family: str) -> PreTrainedModel:
    """A classifier with every dropout of its config at 0.3."""
    config = tiny_config(family, 2, 16)
    for name, value in config.to_dict().items():
        if "drop" in name and (value is None or isinstance(value, (int, float))) and not isinstance(value, bool):
            setattr(config, name, 0.3)
    config.pad_token_id = 0
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
@pytest.mark.parametrize("fast", [False, True])
def test_training_mode_computes_what_evaluation_mode_does(family: str, fast: bool) -> None:
    model = noisy_model(family)
    config = model.config.to_dict()
    if fast:
        use_fast_dropout(model)
    with torch.no_grad():
        expected = model.eval()(**BATCH).logits
        noisy = model.train()(**BATCH).logits
        assert turn_off_dropout(model) > 0
        torch.testing.assert_close(model(**BATCH).logits, expected)
    assert not torch.allclose(noisy, expected)
    assert model.training
    assert model.config.to_dict() == config


@pytest.mark.parametrize("kind", [FalconConfig, PersimmonConfig])
def test_rates_that_modules_look_up_in_the_config_are_turned_off_too(kind: type[PretrainedConfig]) -> None:
    config = kind(
        vocab_size=16, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, pad_token_id=0,
        hidden_dropout=0.3, attention_dropout=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).train()
    with torch.no_grad():
        assert not torch.equal(model(**BATCH).logits, model(**BATCH).logits)
        assert turn_off_dropout(model) > 0
        assert torch.equal(model(**BATCH).logits, model(**BATCH).logits)
    assert model.config.hidden_dropout == model.config.attention_dropout == 0.3, "the config is saved as it was"
    assert turn_off_dropout(model) == 0


def test_a_second_time_finds_nothing_left() -> None:
    model = noisy_model("bert")
    turn_off_dropout(model)
    assert turn_off_dropout(model) == 0
