"""Fast dropout: the distribution of dropout, its gradient, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ted_distill.fast.dropout import FastDropout, keep_factors, undo_fast_dropout, use_fast_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_a_share_p_is_dropped_and_the_expectation_is_kept(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    factors = keep_factors((400, 1001), p, dtype).double()
    count = factors.numel()
    assert abs(float((factors == 0).double().mean()) - p) < 5 * (p * (1 - p) / count) ** 0.5
    kept = factors[factors != 0]
    assert torch.equal(kept, kept[0].expand_as(kept))
    assert float(kept[0]) == pytest.approx(1 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)


def test_the_scale_makes_up_for_the_rounding_of_p() -> None:
    factors = keep_factors((10,), 0.1, torch.float64)
    kept = round(0.9 * 65536)
    assert set(factors.tolist()) <= {0.0, 65536 / kept}


def test_neighbours_that_share_a_draw_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (keep_factors((100_000, 4), 0.5, torch.float64) == 0).double()
    correlation = torch.corrcoef(dropped.T)
    assert float((correlation - torch.eye(4)).abs().max()) < 0.02
    assert float((dropped.mean(0) - 0.5).abs().max()) < 0.01


def test_the_gradient_passes_where_the_input_passed() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Dropout(0.25))
    assert use_fast_dropout(module) == 1
    states = torch.ones(50, 7, requires_grad=True)
    out = module(states)
    out.sum().backward()
    assert torch.equal(states.grad, out)
    assert 0 < float((out == 0).double().mean()) < 0.5


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(keep_factors((64, 65), 0.1, torch.float32))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_and_all_are_dropped_exactly(p: float) -> None:
    module = nn.Sequential(nn.Dropout(p))
    use_fast_dropout(module)
    assert torch.equal(module(torch.ones(9)), torch.full((9,), 1 - p))


def test_it_draws_nothing_in_eval_mode() -> None:
    module = nn.Sequential(nn.Dropout(0.5)).eval()
    use_fast_dropout(module)
    before = torch.get_rng_state()
    assert torch.equal(module(torch.ones(9)), torch.ones(9))
    assert torch.equal(torch.get_rng_state(), before)


def test_switched_off_the_modules_are_what_they_were() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2), nn.Dropout(0.1, inplace=True))
    attributes = copy.deepcopy(module[0].__dict__)
    assert use_fast_dropout(module) == 2
    assert type(module[2]) is FastDropout
    assert undo_fast_dropout(module) == 2
    assert [type(part) for part in module] == [nn.Dropout, nn.Linear, nn.Dropout]
    assert module[0].__dict__.keys() == attributes.keys()


def test_in_place_dropout_changes_its_input() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Dropout(0.5, inplace=True))
    use_fast_dropout(module)
    states = torch.ones(100)
    assert module(states) is states
    assert float(states.sum()) != 100
