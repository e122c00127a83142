"""Frozen models in a smaller type: those that do not run in it as they are, and layers that are read past."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
    MobileBertConfig,
    MobileBertForMaskedLM,
    PreTrainedModel,
    T5Config,
    T5ForSequenceClassification,
    XGLMConfig,
    XGLMForCausalLM,
)
from transformers.utils import ModelOutput

from ted_distill import StageArguments
from ted_distill.fast.packed_linear import PackedLinear
from ted_distill.fast.precision import cast_weights, restore_weights
from ted_distill.stages.teachers.frozen import cast_frozen, pack_frozen, trial
from tiny import tiny_tokenizer

SHAPE: dict[str, Any] = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2}
HEADS: dict[str, Any] = {**SHAPE, "num_attention_heads": 2, "intermediate_size": 48}


def loaded(model: PreTrainedModel) -> Any:
    tokenizer = tiny_tokenizer(token_type_ids=False)
    names = ["input_ids", "attention_mask"]
    return SimpleNamespace(model=model, tokenizer=tokenizer, input_names=names, identity=None, name="a model")


def arguments(folder: Path, **changes: Any) -> StageArguments:
    return StageArguments(str(folder), use_cpu=True, frozen_dtype="bfloat16", **changes)


def packed(model: PreTrainedModel) -> int:
    return sum(isinstance(module, PackedLinear) for module in model.modules())


def xglm() -> PreTrainedModel:
    return XGLMForCausalLM(
        XGLMConfig(vocab_size=60, d_model=32, ffn_dim=48, num_layers=2, attention_heads=2, max_position_embeddings=50)
    )


def test_tables_that_do_not_fit_cast_weights_are_cast_too_and_come_back(tmp_path: Path) -> None:
    model, original = xglm(), xglm()
    assert cast_frozen(loaded(model), arguments(tmp_path)) is torch.bfloat16
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert trial(loaded(model), arguments(tmp_path))().isfinite().all()  # type: ignore[misc]
    restore_weights(model, original)
    assert {tensor.dtype for tensor in (*model.parameters(), *model.buffers())} == {torch.float32}


class WithTable(BertForSequenceClassification):
    """One that adds a table in float32 before a layer that autocast would mend."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.register_buffer("table", torch.full((config.hidden_size,), 0.5))

    def forward(self, *args: Any, **options: Any) -> Any:
        states = self.bert(*args, **options).last_hidden_state[:, 0] + self.table
        return ModelOutput(logits=self.classifier(states))


def test_models_are_tried_as_they_are_run_which_is_without_autocast(tmp_path: Path) -> None:
    model = WithTable(BertConfig(**HEADS))
    assert cast_frozen(loaded(model), arguments(tmp_path, bf16=True)) is torch.bfloat16
    assert model.table.dtype == torch.bfloat16


def test_a_model_whose_predictions_are_no_numbers_in_another_type_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = BertForSequenceClassification(BertConfig(**HEADS))
    forward = model.forward

    def overflowing(*args: Any, **options: Any) -> Any:
        found = forward(*args, **options)
        return found if model.classifier.weight.dtype == torch.float32 else ModelOutput(logits=found.logits * torch.nan)

    monkeypatch.setattr(model, "forward", overflowing)
    assert cast_frozen(loaded(model), arguments(tmp_path)) is torch.float32
    assert "its predictions are not numbers" in caplog.text


def test_a_model_that_is_told_to_give_tuples_is_tried_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = BertForSequenceClassification(BertConfig(**HEADS, return_dict=False)).eval()
    assert cast_frozen(loaded(model), arguments(tmp_path)) is torch.bfloat16
    model.requires_grad_(False)
    pack_frozen(loaded(model), arguments(tmp_path))
    assert packed(model)
    assert not caplog.records


def test_tables_that_a_trial_has_moved_and_cast_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is moved to a GPU has other objects for its tables afterwards."""
    model = WithTable(BertConfig(**HEADS))

    def moved(device: object) -> Any:
        model.table = model.table.clone()
        return model

    monkeypatch.setattr(model, "to", moved)
    monkeypatch.setattr(model, "forward", lambda *args, **options: 1 / 0)
    assert cast_frozen(loaded(model), arguments(tmp_path)) is torch.float32
    assert model.table.dtype == torch.float32


def test_a_model_that_does_not_run_in_another_type_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = BertForSequenceClassification(BertConfig(**HEADS))
    forward, before = model.forward, {name: weight.clone() for name, weight in model.named_parameters()}

    def only_exact(*args: Any, **options: Any) -> Any:
        if model.classifier.weight.dtype != torch.float32:
            raise RuntimeError("expected float\nand got bfloat16")
        return forward(*args, **options)

    monkeypatch.setattr(model, "forward", only_exact)
    assert cast_frozen(loaded(model), arguments(tmp_path)) is torch.float32
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert "expected a model to run in bfloat16, got an error (expected float and got bfloat16)" in caplog.text


@pytest.mark.parametrize(
    ("model", "is_packed"),
    [
        (lambda: BertForSequenceClassification(BertConfig(**HEADS)), True),
        (lambda: MambaForCausalLM(MambaConfig(**SHAPE, state_size=4)), False),
        (
            lambda: MobileBertForMaskedLM(
                MobileBertConfig(**HEADS, embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16)
            ),
            False,
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_layers_are_packed_unless_the_model_reads_their_weights_itself(
    tmp_path: Path, model: Any, is_packed: bool
) -> None:
    made = model().eval()
    cast_frozen(loaded(made), arguments(tmp_path))
    made.requires_grad_(False)
    run = trial(loaded(made), arguments(tmp_path))
    assert run is not None
    before = run()
    pack_frozen(loaded(made), arguments(tmp_path))
    assert bool(packed(made)) is is_packed
    torch.testing.assert_close(run(), before, atol=0.02, rtol=0.05)


def test_what_transformers_keeps_in_float32_is_not_rounded() -> None:
    model = T5ForSequenceClassification(T5Config(vocab_size=60, d_model=32, d_ff=64, num_layers=2, num_heads=4, d_kv=8))
    cast_weights(model, torch.float16)
    exact = {name.split(".")[-2] for name, weight in model.named_parameters() if weight.dtype == torch.float32}
    assert exact == {"wo"}
    cast_weights(model, torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
