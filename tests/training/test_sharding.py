"""The pieces of sharding that need no second process; `tests/stages/test_sharded.py` has the whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, BartConfig

from ted_distill.method.filters import FilteredModel
from ted_distill.training.sharded.sharding import block_classes, empty, gather, materialise, twin_of
from tiny import tiny_config


class _Task:
    def logits(self, outputs: object) -> object:
        return outputs


@pytest.fixture
def whole() -> FilteredModel:
    """A model whose head shares its word embeddings."""
    torch.manual_seed(0)
    return FilteredModel(AutoModelForMaskedLM.from_config(tiny_config("bert", 2, 8)), select_logits=_Task().logits)


def test_a_twin_has_the_same_memory_the_same_ties_and_the_same_task(whole: FilteredModel) -> None:
    task, cache = whole.select_logits.__self__, object()  # type: ignore[attr-defined]
    whole.cache = cache  # type: ignore[assignment]
    twin = twin_of(whole, [task])
    assert twin.select_logits.__self__ is task  # type: ignore[attr-defined]
    assert twin.cache is cache
    ours, theirs = dict(whole.named_parameters()), dict(twin.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is not theirs[name] for name in ours)
    assert all(ours[name].data_ptr() == theirs[name].data_ptr() for name in ours)
    model = twin.model
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_an_empty_module_has_shapes_and_no_memory_until_it_is_filled(whole: FilteredModel) -> None:
    twin = twin_of(whole, [whole.select_logits.__self__])  # type: ignore[attr-defined]
    count, saved = whole.model.num_parameters(), {name: weight.clone() for name, weight in twin.state_dict().items()}
    empty(whole)
    assert whole.model.num_parameters() == count
    assert {weight.untyped_storage().nbytes() for weight in whole.parameters()} == {4}
    gather(whole, twin, main=False)
    assert {weight.untyped_storage().nbytes() for weight in whole.parameters()} == {4}
    gather(whole, twin, main=True)
    assert all(torch.equal(weight, saved[name]) for name, weight in whole.state_dict().items())
    empty(whole)
    materialise(whole)
    whole.load_state_dict(saved)
    assert all(torch.equal(weight, saved[name]) for name, weight in whole.state_dict().items())


def test_only_what_is_trained_is_gathered_on_demand(whole: FilteredModel) -> None:
    whole.model.requires_grad_(False)
    whole.model.base_model.embeddings.LayerNorm.requires_grad_(True)
    twin = twin_of(whole, [whole.select_logits.__self__])  # type: ignore[attr-defined]
    empty(whole)
    gather(whole, twin, main=True, trained=True)
    filled = {name for name, weight in whole.named_parameters() if weight.untyped_storage().nbytes() > 4}
    assert {name.rpartition(".")[0] for name in filled} == {"model.bert.embeddings.LayerNorm"}


def test_blocks_are_found_in_encoders_and_decoders() -> None:
    assert block_classes(AutoModelForMaskedLM.from_config(tiny_config("bert", 2, 8))) == ["BertLayer"]
    config = BartConfig(
        vocab_size=99, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=16,
    )  # fmt: skip
    assert block_classes(AutoModelForSeq2SeqLM.from_config(config)) == ["BartDecoderLayer", "BartEncoderLayer"]
    assert block_classes(nn.Linear(2, 2)) == []
