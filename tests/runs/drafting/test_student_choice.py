"""The student of a drafted recipe: half of the blocks, or the largest one within a share of size or time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, T5Config

from ted_distill import InputError
from ted_distill.models.narrowing.wiring import WIRINGS
from ted_distill.runs.drafting.latency import Latency, median_seconds, of_latency
from ted_distill.runs.drafting.student_choice import Family, Shape, largest_within, of_size
from tiny import tiny_config


def without_weights(config: Any) -> Any:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


def family(name: str = "bert", blocks: int = 6, width: int = 64, heads: int = 4, **changes: Any) -> Family:
    config = tiny_config(name, blocks, width, num_attention_heads=heads, intermediate_size=4 * width, **changes)
    return Family(without_weights(config), without_weights)


def share(of: Family, shape: Shape) -> float:
    return of.student(shape).num_parameters() / of.teacher.num_parameters()


def test_a_student_has_half_of_the_blocks() -> None:
    assert family().half() == Shape(3, 64)
    assert family(blocks=3).half() == Shape(1, 64)


def test_blocks_are_left_out_before_the_width_is_changed() -> None:
    shape = of_size(family(), 0.5)
    assert shape.width == 64
    assert share(family(), shape) <= 0.5 < share(family(), Shape(shape.blocks + 1, 64))


def test_where_embeddings_are_most_of_a_model_it_is_made_narrower_by_whole_heads() -> None:
    most = family(vocab_size=5000)
    assert share(most, Shape(1, 64)) > 0.5
    shape = of_size(most, 0.5)
    assert shape == Shape(3, 32)
    assert share(most, shape) <= 0.5 < share(most, Shape(3, 48))


def test_a_target_that_cannot_be_reached_is_answered_with_the_smallest_that_can() -> None:
    smallest = share(family(), Shape(1, 16))
    with pytest.raises(InputError, match=rf"the smallest is {smallest:.2f}, with 1 block of width 16; raise it"):
        of_size(family(), smallest / 2)


def test_a_family_that_cannot_be_narrowed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(WIRINGS, "bert")
    with pytest.raises(InputError, match=r"with 1 block of width 64 \(family bert cannot be made narrower\)"):
        of_size(family(vocab_size=5000), 0.2)


def test_a_family_whose_first_block_is_the_only_one_of_its_kind_keeps_it() -> None:
    assert family("modernbert").layers(3) == [1, 4, 6]
    assert family().layers(3) == [2, 4, 6]


def test_the_largest_within_a_limit_is_found_whatever_the_limit() -> None:
    every = family(blocks=4)
    sizes = {Shape(n, 64): float(n) for n in (1, 2, 3)} | {Shape(2, w): w / 100 for w in (16, 32, 48)}
    for limit, shape in ((3, Shape(3, 64)), (1.5, Shape(1, 64)), (0.5, Shape(2, 48)), (0.2, Shape(2, 16))):
        assert largest_within(every, lambda tried, limit=limit: sizes.get(tried, 9) <= limit) == shape
    assert largest_within(every, lambda tried: False) is None


def test_the_fastest_student_within_a_share_of_time_is_chosen_by_what_was_measured() -> None:
    def seconds(models: list[Any], tokens: int) -> list[float]:
        assert tokens == 24
        return [float(model.config.num_hidden_layers * model.config.hidden_size) for model in models]

    shape, latency = of_latency(family(), 0.5, 24, without_weights, seconds)
    assert shape == Shape(3, 64)
    assert (latency.share, latency.tokens) == (0.5, 24)
    assert of_latency(family(), 0.1, 24, without_weights, seconds)[0] == Shape(1, 32)
    with pytest.raises(InputError, match=r"student_latency: .* the smallest is 0.04, with 1 block of width 16"):
        of_latency(family(), 0.01, 24, without_weights, seconds)


def test_models_are_timed_in_turns_on_one_row() -> None:
    models = [AutoModelForSequenceClassification.from_config(tiny_config("bert", blocks)) for blocks in (1, 2)]
    calls: list[tuple[int, tuple[int, ...]]] = []
    for number, model in enumerate(models):
        model.register_forward_pre_hook(
            lambda _, args, kwargs, number=number: calls.append((number, tuple(kwargs["input_ids"].shape))),
            with_kwargs=True,
        )
    found = median_seconds(models, 9)
    assert len(found) == 2
    assert all(seconds > 0 for seconds in found)
    assert calls[:4] == [(0, (1, 9)), (1, (1, 9)), (0, (1, 9)), (1, (1, 9))]
    assert Latency(2.0, 1.0, 9, "a CPU").share == 0.5


def test_a_model_that_classifies_at_the_end_of_the_text_is_timed_too() -> None:
    config = T5Config(vocab_size=40, d_model=16, d_kv=4, num_heads=4, d_ff=32, num_layers=2, decoder_start_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config)
    assert len(median_seconds([model], 9)) == 1


def test_students_for_tags_and_answers_keep_the_first_blocks_of_any_family() -> None:
    of_tags = replace(family(), first=True)
    assert [of_tags.layers(number) for number in (1, 3)] == [[1], [1, 2, 3]]
    assert family().layers(3) == [2, 4, 6]
    modern = replace(family("modernbert"), first=True)
    assert modern.layers(2) == [1, 2]
    assert not modern.needs_first
