"""What filters compute, and files of filters: against plain torch on real tiny models."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate.utils import convert_to_fp32
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, GPT2ForSequenceClassification, PreTrainedModel
from transformers.activations import ACT2FN

from ted_distill.errors import InputError
from ted_distill.identity import weights_fingerprint
from ted_distill.method.filter_files import (
    FILTERS_CONFIG_NAME,
    FILTERS_NAME,
    filters_fingerprint,
    load_filters,
    save_filters,
)
from ted_distill.method.filters import FilterConfig, FilteredModel, Filters, Signals
from tiny import DECODERS, FAMILIES, tiny_config


def tiny_model(
    family: str = "bert", blocks: int = 4, width: int = 16, seed: int = 0, **changes: object
) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModel.from_config(tiny_config(family, blocks, width, **changes)).eval()


def hidden_states(model: PreTrainedModel) -> tuple[Tensor, ...]:
    batch = {"input_ids": torch.tensor([[1, 5, 6, 7, 2], [1, 8, 9, 2, 0]]), "attention_mask": torch.ones(2, 5).long()}
    with torch.no_grad():
        return model(**batch, output_hidden_states=True).hidden_states


def filter_states(filters: Filters, states: tuple[Tensor, ...]) -> list[Tensor]:
    """What filters make of a model's embeddings and hidden states."""
    return filters([states[block] for block in filters.blocks])


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model()


# --- what filters compute -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [None, 24])
def test_linear_filters_are_w_h_plus_b_of_the_right_hidden_states(family: str, width: int | None) -> None:
    model = tiny_model(family)
    states = hidden_states(model)
    filters = Filters.random(FilterConfig.for_model(model.config, 2, width))
    for filter_ in filters.filters:
        nn.init.normal_(filter_.bias)
    found = filter_states(filters, states)
    weights = filters.state_dict()
    assert len(states) == 5
    assert len(found) == 2
    for k, block in enumerate([2, 4]):
        weight, bias = weights[f"filters.{k}.weight"], weights[f"filters.{k}.bias"]
        assert weight.shape == (width or 16, 16)
        torch.testing.assert_close(found[k], torch.einsum("btd,fd->btf", states[block], weight) + bias)


@pytest.mark.parametrize(
    ("family", "activation"), [("bert", "relu"), ("modernbert", "silu"), ("distilbert", "relu"), ("deberta-v2", "tanh")]
)
def test_nonlinear_filters_use_the_models_own_activation_between_two_maps(family: str, activation: str) -> None:
    name = {"modernbert": "hidden_activation", "distilbert": "activation"}.get(family, "hidden_act")
    model = tiny_model(family, **{name: activation})
    states = hidden_states(model)
    config = FilterConfig.for_model(model.config, 1, 24, filter_nonlinear=True)
    assert config.hidden_act == activation
    filters = Filters.random(config, initializer_range=0.5)
    for k, found in enumerate(filter_states(filters, states)):
        first, last = filters.filters[k][0], filters.filters[k][2]
        assert (first.in_features, first.out_features) == (16, 16)
        assert (last.in_features, last.out_features) == (16, 24)
        function = {"relu": F.relu, "silu": F.silu, "tanh": torch.tanh}[activation]
        inner = function(F.linear(states[k + 1], first.weight, first.bias))
        torch.testing.assert_close(found, F.linear(inner, last.weight, last.bias))


def test_gelu_of_the_filters_is_the_exact_one_of_the_model() -> None:
    filters = Filters.random(FilterConfig([1], 4, 4, True, "gelu"), initializer_range=1.0)
    x = torch.randn(1, 3, 4)
    first, last = filters.filters[0][0], filters.filters[0][2]
    inner = first(x)
    exact = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
    torch.testing.assert_close(filters([x])[0], last(exact))
    assert "gelu" in ACT2FN


def test_identity_filters_are_the_hidden_states_themselves(model: PreTrainedModel) -> None:
    states = hidden_states(model)
    filters = Filters.identity([2, 4])
    found = filter_states(filters, states)
    assert len(found) == 2
    assert all(state is states[block] for state, block in zip(found, [2, 4], strict=True))
    assert list(filters.parameters()) == []


@pytest.mark.parametrize("given", [0, 1, 3])
def test_filters_want_the_hidden_states_of_their_blocks_and_no_others(model: PreTrainedModel, given: int) -> None:
    states = hidden_states(model)
    for filters in (Filters.identity([2, 4]), Filters.random(FilterConfig.for_model(model.config, 2))):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            filters(states[:given])


def test_filters_are_selected_in_any_order(model: PreTrainedModel) -> None:
    states = hidden_states(model)
    filters = Filters.random(FilterConfig.for_model(model.config), initializer_range=0.3)
    found = filter_states(filters.select([4, 1]), states)
    expected = filter_states(filters, states)
    assert torch.equal(found[0], expected[3])
    assert torch.equal(found[1], expected[0])
    with pytest.raises(InputError, match=r"expected filters of blocks 1, 5, got those of 1, 2, 3, 4; learn those of 5"):
        filters.select([1, 5])


def test_filtered_model_keeps_the_logits_and_adds_the_states(model: PreTrainedModel) -> None:
    filters = Filters.random(FilterConfig.for_model(model.config))
    batch = {"input_ids": torch.tensor([[1, 5, 2]]), "attention_mask": torch.ones(1, 3).long(), "labels": "unread"}
    plain = FilteredModel(model, select_logits=lambda outputs: outputs.last_hidden_state)
    filtered = FilteredModel(model, filters, select_logits=lambda outputs: outputs.last_hidden_state)
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        assert torch.equal(plain(batch).logits, expected)
        assert plain(batch).states == []
        assert torch.equal(filtered(batch).logits, expected)
        assert torch.equal(filtered(batch).states[3], filters.filters[3](expected))


def test_a_frozen_model_is_in_eval_mode_and_wants_no_gradients() -> None:
    model = tiny_model()
    filtered = FilteredModel(model.train(), Filters.random(FilterConfig.for_model(model.config)), select_logits=len)
    filtered.freeze()
    assert not any(module.training for module in filtered.modules())
    assert not any(weight.requires_grad for weight in filtered.parameters())
    assert len(list(filtered.parameters())) > 8


def frozen_and_batch(label_order: list[int] | None = None) -> tuple[FilteredModel, dict[str, Tensor]]:
    model = tiny_model()
    filters = Filters.random(FilterConfig.for_model(model.config, 2, 24), initializer_range=0.3)
    filtered = FilteredModel(model, filters, select_logits=lambda out: out.last_hidden_state, label_order=label_order)
    return filtered, {"input_ids": torch.tensor([[1, 5, 2]]), "attention_mask": torch.ones(1, 3).long()}


def test_a_frozen_filtered_model_gives_no_gradient() -> None:
    filtered, batch = frozen_and_batch()
    live = filtered(batch)
    assert all(tensor.requires_grad for tensor in (live.logits, *live.states))
    found = filtered.freeze()(batch)
    assert len(found.states) == 2
    assert not any(tensor.requires_grad for tensor in (found.logits, *found.states))
    assert torch.equal(found.logits, live.logits)
    assert all(torch.equal(a, b) for a, b in zip(found.states, live.states, strict=True))


def test_filters_of_a_frozen_model_learn_where_it_alone_is_frozen() -> None:
    filtered, batch = frozen_and_batch()
    found = filtered.train().freeze_model()(batch)
    assert not found.logits.requires_grad
    assert not filtered.model.training
    sum(states.square().sum() for states in found.states).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in filtered.filters.parameters())
    assert all(weight.grad is None for weight in filtered.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_filtered_model_ignores_autocast(dtype: torch.dtype) -> None:
    filtered, batch = frozen_and_batch()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert filtered(batch).states[0].dtype == torch.bfloat16  # one that is trained does not
    filtered.freeze().to(dtype)
    plain = filtered(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16 if dtype == torch.float32 else torch.float16):
        found = filtered(batch)
    assert {tensor.dtype for tensor in (found.logits, *found.states)} == {dtype}
    assert torch.equal(found.logits, plain.logits)
    assert all(torch.equal(a, b) for a, b in zip(found.states, plain.states, strict=True))


def test_logits_are_put_into_the_order_of_the_labels() -> None:
    order = [*range(1, 16), 0]
    filtered, batch = frozen_and_batch()
    ordered, _ = frozen_and_batch(order)
    with torch.no_grad():
        assert torch.equal(ordered(batch).logits, filtered(batch).logits[..., order])
        assert torch.equal(ordered.run(batch).logits, ordered(batch).logits)


def test_a_run_gives_the_hidden_states_before_any_filter() -> None:
    filtered, batch = frozen_and_batch()
    with torch.no_grad():
        found = filtered.run(batch)
        states = filtered.model(**batch, output_hidden_states=True).hidden_states
    assert [torch.equal(a, b) for a, b in zip(found.states, (states[2], states[4]), strict=True)] == [True, True]


def test_a_cache_is_asked_for_the_states_of_a_frozen_model_alone() -> None:
    filtered, batch = frozen_and_batch()
    asked: list[list[int]] = []

    def cache(
        batch: dict[str, Tensor], blocks: list[int], run: Callable[[dict[str, Tensor]], Signals], relations: None
    ) -> Signals:
        asked.append(list(blocks))
        found = run(batch)
        return Signals(found.logits, [2 * states for states in found.states])

    expected = filtered.filters([2 * states for states in filtered.run(batch).states])
    filtered.cache = cache
    filtered(batch)
    assert asked == []
    filtered.freeze()
    found = filtered(batch).states
    assert asked == [[2, 4]]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_signals_are_a_record_and_no_tuple() -> None:
    signals = Signals(torch.ones(2, 3), [torch.ones(2, 4, 5)])
    assert [field.name for field in dataclasses.fields(Signals)] == ["logits", "states", "vectors"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        signals.states = []  # type: ignore[misc]
    # accelerate would make float32 copies of all the states in a tuple, a list or a dict.
    converted = convert_to_fp32(Signals(torch.ones(2, 3).bfloat16(), [torch.ones(2, 4, 5).bfloat16()]))
    assert converted.logits.dtype == torch.bfloat16
    assert converted.states[0].dtype == torch.bfloat16


# --- initial values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nonlinear", [False, True])
def test_fresh_filters_have_normal_weights_of_std_0_02_and_zero_bias(nonlinear: bool) -> None:
    torch.manual_seed(0)
    filters = Filters.random(FilterConfig([1, 2], 300, 200, nonlinear))
    layers = [layer for layer in filters.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == (4 if nonlinear else 2)
    for layer in layers:
        numbers = layer.weight.numel()
        # Five standard errors of the mean and of the standard deviation.
        assert abs(layer.weight.mean()) < 5 * 0.02 / math.sqrt(numbers)
        assert abs(layer.weight.std() - 0.02) < 5 * 0.02 / math.sqrt(2 * numbers)
        # A normal distribution, not a uniform one of the same spread: 4.55% lie beyond two deviations.
        assert abs((layer.weight.abs() > 0.04).float().mean() - 0.0455) < 0.01
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
    assert not torch.equal(layers[0].weight, layers[-1].weight[: len(layers[0].weight)])


def test_fresh_filters_follow_the_models_initializer_range() -> None:
    torch.manual_seed(0)
    weight = Filters.random(FilterConfig([1], 300, 200), initializer_range=0.1).filters[0].weight
    assert abs(weight.std() - 0.1) < 0.005


def test_the_same_seed_gives_the_same_filters() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(Filters.random(FilterConfig([1, 2], 8, 6)).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


def test_a_width_below_one_is_refused(model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="filter_output_dim: expected a width of at least 1, got 0"):
        FilterConfig.for_model(model.config, filter_output_dim=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_tells_its_width_and_number_of_blocks(family: str) -> None:
    config = FilterConfig.for_model(tiny_config(family, blocks=3, width=24))
    assert (config.blocks, config.hidden_size, config.filter_output_dim) == ([1, 2, 3], 24, 24)


# --- files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(model: PreTrainedModel, tmp_path: Path) -> Path:
    save_filters(tmp_path, Filters.random(FilterConfig.for_model(model.config, 2, 24)), model)
    return tmp_path


@pytest.mark.parametrize("nonlinear", [False, True])
def test_filters_come_back_bit_for_bit(model: PreTrainedModel, tmp_path: Path, nonlinear: bool) -> None:
    filters = Filters.random(FilterConfig.for_model(model.config, 2, 24, nonlinear), initializer_range=0.3)
    for name, weight in filters.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight)
    save_filters(str(tmp_path), filters, model)
    torch.manual_seed(99)
    loaded = load_filters(tmp_path, model)
    assert loaded.config == filters.config
    assert loaded.blocks == [2, 4]
    assert loaded.state_dict().keys() == filters.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in filters.state_dict().items())
    states = hidden_states(model)
    both = filter_states(loaded, states), filter_states(filters, states)
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("nonlinear", [False, True])
def test_the_names_in_the_file_are_the_published_ones(model: PreTrainedModel, tmp_path: Path, nonlinear: bool) -> None:
    filters = Filters.random(FilterConfig.for_model(model.config, 2, 24, nonlinear))
    save_filters(tmp_path, filters, model)
    layers = ["0.", "2."] if nonlinear else [""]
    expected = {f"filters.{k}.{layer}{kind}" for k in (0, 1) for layer in layers for kind in ("weight", "bias")}
    assert set(load_file(tmp_path / FILTERS_NAME)) == expected
    description = json.loads((tmp_path / FILTERS_CONFIG_NAME).read_text())
    assert description == {
        "blocks": [2, 4],
        "hidden_size": 16,
        "filter_output_dim": 24,
        "filter_nonlinear": nonlinear,
        "hidden_act": "gelu",
        "model_type": "bert",
        "model_sha256": weights_fingerprint(model),
        "filters_sha256": filters_fingerprint(filters),
    }


def test_filters_of_bfloat16_training_are_saved_as_they_are(model: PreTrainedModel, tmp_path: Path) -> None:
    filters = Filters.random(FilterConfig.for_model(model.config, 4)).to(torch.bfloat16)
    save_filters(tmp_path, filters, model)
    assert load_file(tmp_path / FILTERS_NAME)["filters.0.weight"].dtype == torch.bfloat16
    assert torch.equal(load_filters(tmp_path, model).filters[0].weight, filters.filters[0].weight.float())


def test_identity_filters_are_not_saved(model: PreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got identity filters"):
        save_filters(tmp_path, Filters.identity([1]), model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [[FILTERS_NAME], [FILTERS_CONFIG_NAME], [FILTERS_CONFIG_NAME, FILTERS_NAME]])
def test_missing_files_are_refused_never_filled_in_at_random(
    saved: Path, model: PreTrainedModel, names: list[str]
) -> None:
    for name in names:
        (saved / name).unlink()
    with pytest.raises(InputError, match=f"teacher filters: expected {' and '.join(names)} in") as refused:
        load_filters(saved, model, "teacher")
    assert "ted learn-filters" in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(model: PreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in .*nowhere, found no such file"):
        load_filters(tmp_path / "nowhere", model)


@pytest.mark.parametrize("name", [FILTERS_NAME, FILTERS_CONFIG_NAME])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_files_are_refused(saved: Path, model: PreTrainedModel, name: str, share: float) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=f"student filters: .*{name}.*; make them again"):
        load_filters(saved, model, "student")


@pytest.mark.parametrize("content", ["[]", "3", '{"blocks": [1]}', '{"model_sha256": "0", "model_type": "bert"}'])
def test_a_description_of_something_else_is_refused(saved: Path, model: PreTrainedModel, content: str) -> None:
    (saved / FILTERS_CONFIG_NAME).write_text(content)
    with pytest.raises(InputError, match="is not a description of filters"):
        load_filters(saved, model)


def test_weights_that_are_not_those_described_are_refused(saved: Path, model: PreTrainedModel) -> None:
    weights = load_file(saved / FILTERS_NAME)
    for broken in (
        {name: weight for name, weight in weights.items() if name != "filters.1.weight"},
        weights | {"filters.0.weight": torch.zeros(24, 17)},
        weights | {"filters.2.weight": torch.zeros(24, 16)},
    ):
        save_file(broken, saved / FILTERS_NAME)
        with pytest.raises(InputError, match=r"does not hold what filters\.json describes"):
            load_filters(saved, model)


@pytest.mark.parametrize("place", [0.3, 0.6, 1.0])
def test_filters_whose_file_has_one_flipped_byte_are_refused_by_name(
    saved: Path, model: PreTrainedModel, place: float
) -> None:
    content = bytearray((saved / FILTERS_NAME).read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")  # of the weights: sizes and names are in the header
    assert len(content) - start == 4 * 2 * (16 * 24 + 24)
    content[start + round(place * (len(content) - start - 1))] ^= 1
    (saved / FILTERS_NAME).write_bytes(content)
    with pytest.raises(InputError, match=rf"teacher filters: .*{FILTERS_NAME} is damaged: .*; make them again with"):
        load_filters(saved, model, "teacher")


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"blocks": [1, 4]}])
def test_a_description_that_was_changed_is_refused_too(
    saved: Path, model: PreTrainedModel, change: dict[str, object]
) -> None:
    description = json.loads((saved / FILTERS_CONFIG_NAME).read_text())
    (saved / FILTERS_CONFIG_NAME).write_text(json.dumps(description | change))
    with pytest.raises(InputError, match="is damaged"):
        load_filters(saved, model)


def test_filters_of_version_0_1_0_have_no_sum_and_are_read(saved: Path, model: PreTrainedModel) -> None:
    description = json.loads((saved / FILTERS_CONFIG_NAME).read_text())
    del description["filters_sha256"]
    (saved / FILTERS_CONFIG_NAME).write_text(json.dumps(description))
    assert load_filters(saved, model).blocks == [2, 4]


def test_filters_of_other_weights_are_refused(saved: Path) -> None:
    with pytest.raises(InputError, match=r"teacher filters: those in .* were trained with a different model; pass the"):
        load_filters(saved, tiny_model(seed=1), "teacher")


def test_filters_of_another_width_are_refused_with_both_widths(saved: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"student filters: expected filters of hidden states of width 24, got those in .*, of width 16",
    ):
        load_filters(saved, tiny_model(width=24), "student")


def test_filters_of_more_blocks_than_the_model_has_are_refused(saved: Path) -> None:
    with pytest.raises(InputError, match=r"expected filters of blocks 1 to 3, got in .* that of block 4"):
        load_filters(saved, tiny_model(blocks=3))


# --- fingerprints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reload_keeps_the_fingerprint(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    assert weights_fingerprint(AutoModel.from_pretrained(tmp_path)) == weights_fingerprint(model)


def test_one_changed_bit_of_any_weight_changes_the_fingerprint() -> None:
    model = tiny_model(blocks=1)
    seen = {weights_fingerprint(model)}
    for weight in model.parameters():
        last = weight.data.view(-1)[-1:].view(torch.int32)
        last ^= 1
        seen.add(weights_fingerprint(model))
        last ^= 1
    assert len(seen) == 1 + len(list(model.parameters()))
    assert weights_fingerprint(model) in seen


def test_the_fingerprint_tells_apart_names_shapes_and_kinds() -> None:
    class Named(nn.Module):
        def __init__(self, **tensors: Tensor) -> None:
            super().__init__()
            for name, tensor in tensors.items():
                self.register_buffer(name, tensor)

    ones = torch.zeros(4, 2)
    modules = [
        Named(a=ones),
        Named(b=ones),
        Named(a=ones.reshape(2, 4)),
        Named(a=ones.to(torch.int32)),
        Named(a=ones, b=torch.zeros(0)),
        Named(a=ones.double().reshape(-1)[:4]),
    ]
    assert len({weights_fingerprint(module) for module in modules}) == len(modules)


def test_training_mode_and_gradients_do_not_change_the_fingerprint() -> None:
    model = tiny_model()
    before = weights_fingerprint(model)
    model.train().requires_grad_(False)
    assert weights_fingerprint(model) == before


def test_filters_of_a_causal_classifier_read_the_last_real_token() -> None:
    config = GPT2Config(
        vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=1
    )
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(config).eval()
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [8, 9, 10, 11]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
    }
    filtered = FilteredModel(
        model, Filters.identity([2]), select_logits=lambda outputs: outputs.logits, filter_token="first"
    )
    with torch.no_grad():
        output = filtered(batch)
    assert output.states[0].shape == (2, 1, 16)
    # transformers' own classifier reads the same token.
    assert torch.allclose(model.score(output.states[0][:, 0]), output.logits)


def test_logits_alone_are_the_same_and_no_filter_is_run_for_them() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config("gpt2"))
    filtered = FilteredModel(model, Filters.identity([1, 2]), select_logits=lambda outputs: outputs.logits).freeze()
    ids = torch.randint(3, 40, (2, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert filtered.filters is not None
    filtered.filters.register_forward_pre_hook(lambda *_: pytest.fail("filters were run"))
    alone = filtered(batch, need_states=False)
    assert alone.states == []
    filtered.filters = Filters.identity([1, 2])
    assert torch.equal(alone.logits, filtered(batch).logits)


@pytest.mark.parametrize("family", DECODERS)
def test_a_causal_model_without_logits_has_the_same_hidden_states(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family))
    filtered = FilteredModel(model, Filters.identity([1, 2]), select_logits=lambda outputs: outputs.logits).freeze()
    ids = torch.randint(3, 40, (2, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    whole, without = filtered(batch), filtered(batch, need_logits=False)
    assert whole.logits.shape == (2, 9, 40)
    assert torch.allclose(without.logits, whole.logits[:, -1:])
    assert all(torch.equal(a, b) for a, b in zip(whole.states, without.states, strict=True))
