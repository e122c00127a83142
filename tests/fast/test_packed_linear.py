"""Packed linear layers: the same products, for frozen bfloat16 models on a CPU alone, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ted_distill.fast import packed_linear
from ted_distill.fast.packed_linear import PackedLinear, undo_packed_linear, use_packed_linear

packs = pytest.mark.skipif(not packed_linear._works(), reason="PyTorch packs no bfloat16 weights on this processor")


def _layer(inputs: int = 48, outputs: int = 40, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, outputs, bias=bias)).bfloat16().requires_grad_(False)


@packs
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (3, 7, 48), (2, 500, 48), (8, 300, 48), (0, 48)])
def test_products_are_as_near_to_float32_as_before(shape: tuple[int, ...], bias: bool) -> None:
    layer = _layer(bias=bias)
    states = torch.randn(shape).bfloat16()
    plain = layer(states)
    assert use_packed_linear(layer) == 1
    found = layer(states)
    assert found.shape == plain.shape
    assert found.dtype == torch.bfloat16
    assert undo_packed_linear(layer) == 1
    wide = F.linear(states.float(), layer[0].weight.float(), layer[0].bias.float() if bias else None)
    torch.testing.assert_close(found.float(), wide, rtol=2**-8, atol=2**-8)


@packs
def test_unpacked_the_layer_is_what_it_was() -> None:
    layer = _layer()
    before, names = layer[0].weight.clone(), set(layer[0].__dict__)
    assert use_packed_linear(layer) == 1
    assert type(layer[0]) is PackedLinear
    assert layer[0].weight.numel() == 0  # not kept twice
    assert undo_packed_linear(layer) == 1
    assert type(layer[0]) is nn.Linear
    assert set(layer[0].__dict__) == names
    assert torch.equal(layer[0].weight, before)


@pytest.mark.parametrize("kind", ["float32", "trained"])
def test_other_models_are_left_alone(kind: str) -> None:
    layer = _layer().float() if kind == "float32" else _layer().requires_grad_(True)
    assert use_packed_linear(layer) == 0
    assert type(layer[0]) is nn.Linear


@pytest.mark.parametrize("fault", [RuntimeError("no such operator"), None])
def test_without_the_operators_or_with_others_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    def product(rows: torch.Tensor, *_: object) -> torch.Tensor:
        if fault:
            raise fault
        return torch.zeros(len(rows), 16)

    monkeypatch.setattr(packed_linear, "_product", product)
    layer = _layer()
    assert use_packed_linear(layer) == 0
    assert type(layer[0]) is nn.Linear
