from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

import language_model_cost


def test_operations_of_each_part_are_those_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Except attention, a causal one of which PyTorch counts in a way of its own, and losses inside of which autograd
    runs, which it cannot count."""
    monkeypatch.setattr(language_model_cost, "WIDTH", 48)
    monkeypatch.setattr(language_model_cost, "VOCABULARY", 100)
    expected = language_model_cost.operations(0)
    for name, function in language_model_cost.parts(6, 1).items():
        if "losses" in name or "Stage I" in name:
            continue
        with FlopCounterMode(display=False) as counter:
            function()
        of_attention = sum(
            number for op, number in counter.get_flop_counts()["Global"].items() if "attention" in str(op)
        )
        assert (counter.get_total_flops() - of_attention) / 6 == expected[name], name
