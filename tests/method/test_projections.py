"""Queries, keys and values of a block, against the model's own arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModel, GPTBigCodeConfig, GPTBigCodeModel, PreTrainedModel, T5Config, T5EncoderModel

from ted_distill.errors import InputError
from ted_distill.method.projections import projection_modules, projection_widths, recorded_projections
from tiny import DECODERS, FAMILIES, tiny_config

IDS = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 9, 2, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def tiny_model(family: str, blocks: int = 3) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModel.from_config(tiny_config(family, blocks, 16)).eval()


def recorded(model: PreTrainedModel, block: int) -> list[Tensor]:
    vectors: list[Tensor] = []
    with torch.no_grad(), recorded_projections(*projection_modules(model, block), vectors):
        model(input_ids=IDS, attention_mask=MASK)
    return vectors


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_every_family_gives_queries_keys_and_values_of_each_block(family: str) -> None:
    model = tiny_model(family)
    of_blocks = [recorded(model, block) for block in (1, 2, 3)]
    for vectors in of_blocks:
        assert [tensor.shape[:2] for tensor in vectors] == [IDS.shape] * 3
        assert vectors[0].shape[-1] == 16
    assert not torch.equal(of_blocks[0][0], of_blocks[1][0])
    assert not torch.equal(of_blocks[0][0], of_blocks[0][1])


@pytest.mark.parametrize(("family", "block"), [("bert", 1), ("bert", 3), ("deberta-v2", 2), ("albert", 3)])
def test_they_are_linear_maps_of_the_block_before(family: str, block: int) -> None:
    model = tiny_model(family)
    with torch.no_grad():
        before = model(input_ids=IDS, attention_mask=MASK, output_hidden_states=True).hidden_states[block - 1]
        modules, _ = projection_modules(model, block)
        for module, vectors in zip(modules, recorded(model, block), strict=True):
            torch.testing.assert_close(vectors, module(before))


@pytest.mark.parametrize(("family", "block"), [("gpt2", 2), ("modernbert", 3)])
def test_one_matrix_for_all_three_is_cut_in_their_order(family: str, block: int) -> None:
    model = tiny_model(family)
    seen: list[Tensor] = []
    (module,), _ = projection_modules(model, block)
    module.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    vectors = recorded(model, block)
    weight: Tensor = module.weight.T if family != "gpt2" else module.weight  # type: ignore[union-attr,assignment]
    bias = torch.zeros(()) if module.bias is None else module.bias[16:32]  # type: ignore[index]
    torch.testing.assert_close(vectors[1], seen[0] @ weight[:, 16:32] + bias)


def test_recording_leaves_no_hook_behind_and_keeps_the_graph() -> None:
    model = tiny_model("bert")
    vectors: list[Tensor] = []
    with recorded_projections(*projection_modules(model, 2), vectors):
        model(input_ids=IDS, attention_mask=MASK)
    assert all(tensor.requires_grad for tensor in vectors)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_family_whose_projections_are_not_known_is_refused_by_name() -> None:
    class Mixed(nn.Module):
        base_model = nn.Linear(2, 2)
        config = tiny_config("bert", 3, 16)

    with pytest.raises(InputError, match="got Mixed"):
        projection_modules(Mixed(), 1)  # type: ignore[arg-type]


def test_relative_attention_of_t5_has_them_too() -> None:
    model = T5EncoderModel(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)).eval()
    assert [tensor.shape for tensor in recorded(model, 2)] == [(2, 5, 16)] * 3


@pytest.mark.parametrize(("multi_query", "is_known"), [(True, False), (False, True)])
def test_one_matrix_is_cut_only_where_its_thirds_are_queries_keys_and_values(multi_query: bool, is_known: bool) -> None:
    """With one key and value for all heads, a third of the matrix is neither."""
    config = GPTBigCodeConfig(
        vocab_size=40, n_embd=24, n_layer=2, n_head=4, n_positions=32, multi_query=multi_query, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    model = GPTBigCodeModel(config)
    if is_known:
        assert projection_widths(model, 1) == [24, 24, 24]
    else:
        with pytest.raises(InputError, match="expected a model with queries, keys and values of its own"):
            projection_modules(model, 1)
