"""What filters compute, and files of filters: against plain torch on real tiny models."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, GPT2ForSequenceClassification, PreTrainedModel
from transformers.activations import ACT2FN

from ted_distill.errors import InputError
from ted_distill.method.filter_files import FILTERS_CONFIG_NAME, FILTERS_NAME, fingerprint, load_filters, save_filters
from ted_distill.method.filters import FilterConfig, FilteredModel, Filters
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
    found = filters(states)
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
    for k, found in enumerate(filters(states)):
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
    torch.testing.assert_close(filters([x, x])[0], last(exact))
    assert "gelu" in ACT2FN


def test_identity_filters_are_the_hidden_states_themselves(model: PreTrainedModel) -> None:
    states = hidden_states(model)
    filters = Filters.identity([2, 4])
    found = filters(states)
    assert all(state is states[block] for state, block in zip(found, [2, 4], strict=True))
    assert list(filters.parameters()) == []


def test_filtered_model_keeps_the_logits_and_adds_the_states(model: PreTrainedModel) -> None:
    filters = Filters.random(FilterConfig.for_model(model.config))
    batch = {"input_ids": torch.tensor([[1, 5, 2]]), "attention_mask": torch.ones(1, 3).long(), "labels": "unread"}
    plain = FilteredModel(model, read_logits=lambda outputs: outputs.last_hidden_state)
    filtered = FilteredModel(model, filters, read_logits=lambda outputs: outputs.last_hidden_state)
    with torch.no_grad():
        expected = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        assert torch.equal(plain(batch).logits, expected)
        assert plain(batch).states == []
        assert torch.equal(filtered(batch).logits, expected)
        assert torch.equal(filtered(batch).states[3], filters.filters[3](expected))


def test_a_frozen_model_is_in_eval_mode_and_wants_no_gradients() -> None:
    model = tiny_model()
    filtered = FilteredModel(model.train(), Filters.random(FilterConfig.for_model(model.config)), read_logits=len)
    filtered.freeze()
    assert not any(module.training for module in filtered.modules())
    assert not any(weight.requires_grad for weight in filtered.parameters())
    assert len(list(filtered.parameters())) > 8


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
    with pytest.raises(InputError, match="filter_output_dim: a width of at least 1 was expected, 0 came"):
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
    save_filters(tmp_path, filters, model)
    torch.manual_seed(99)
    loaded = load_filters(tmp_path, model)
    assert loaded.config == filters.config
    assert loaded.blocks == [2, 4]
    assert loaded.state_dict().keys() == filters.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in filters.state_dict().items())
    states = hidden_states(model)
    assert all(torch.equal(a, b) for a, b in zip(loaded(states), filters(states), strict=True))


@pytest.mark.parametrize("nonlinear", [False, True])
def test_the_names_in_the_file_are_the_published_ones(model: PreTrainedModel, tmp_path: Path, nonlinear: bool) -> None:
    save_filters(tmp_path, Filters.random(FilterConfig.for_model(model.config, 2, 24, nonlinear)), model)
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
        "model_sha256": fingerprint(model),
    }


def test_filters_of_bfloat16_training_are_saved_as_they_are(model: PreTrainedModel, tmp_path: Path) -> None:
    filters = Filters.random(FilterConfig.for_model(model.config, 4)).to(torch.bfloat16)
    save_filters(tmp_path, filters, model)
    assert load_file(tmp_path / FILTERS_NAME)["filters.0.weight"].dtype == torch.bfloat16
    assert torch.equal(load_filters(tmp_path, model).filters[0].weight, filters.filters[0].weight.float())


def test_identity_filters_are_not_saved(model: PreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="identity filters have no weights"):
        save_filters(tmp_path, Filters.identity([1]), model)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [[FILTERS_NAME], [FILTERS_CONFIG_NAME], [FILTERS_CONFIG_NAME, FILTERS_NAME]])
def test_missing_files_are_refused_never_filled_in_at_random(
    saved: Path, model: PreTrainedModel, names: list[str]
) -> None:
    for name in names:
        (saved / name).unlink()
    with pytest.raises(InputError, match=f"teacher filters: {' and '.join(names)} expected in") as refused:
        load_filters(saved, model, "teacher")
    assert "ted learn-filters" in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(model: PreTrainedModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere, not found"):
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


def test_filters_of_other_weights_are_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="learnt on other weights than this teacher's; give the model"):
        load_filters(saved, tiny_model(seed=1), "teacher")


def test_filters_of_another_width_are_refused_with_both_widths(saved: Path) -> None:
    with pytest.raises(InputError, match=r"hidden states of width 16, the student's are 24 wide"):
        load_filters(saved, tiny_model(width=24), "student")


def test_filters_of_more_blocks_than_the_model_has_are_refused(saved: Path) -> None:
    with pytest.raises(InputError, match=r"read block 4, the model has 3"):
        load_filters(saved, tiny_model(blocks=3))


# --- fingerprints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reload_keeps_the_fingerprint(family: str, tmp_path: Path) -> None:
    model = tiny_model(family)
    model.save_pretrained(tmp_path)
    assert fingerprint(AutoModel.from_pretrained(tmp_path)) == fingerprint(model)


def test_one_changed_bit_of_any_weight_changes_the_fingerprint() -> None:
    model = tiny_model(blocks=1)
    seen = {fingerprint(model)}
    for weight in model.parameters():
        last = weight.data.view(-1)[-1:].view(torch.int32)
        last ^= 1
        seen.add(fingerprint(model))
        last ^= 1
    assert len(seen) == 1 + len(list(model.parameters()))
    assert fingerprint(model) in seen


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
    assert len({fingerprint(module) for module in modules}) == len(modules)


def test_training_mode_and_gradients_do_not_change_the_fingerprint() -> None:
    model = tiny_model()
    before = fingerprint(model)
    model.train().requires_grad_(False)
    assert fingerprint(model) == before


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
        model, Filters.identity([2]), read_logits=lambda outputs: outputs.logits, first_token_only=True
    )
    with torch.no_grad():
        output = filtered(batch)
    assert output.states[0].shape == (2, 1, 16)
    # transformers' own classifier reads the same token.
    assert torch.allclose(model.score(output.states[0][:, 0]), output.logits)


@pytest.mark.parametrize("family", DECODERS)
def test_a_causal_model_without_logits_has_the_same_hidden_states(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family))
    filtered = FilteredModel(model, Filters.identity([1, 2]), read_logits=lambda outputs: outputs.logits).freeze()
    ids = torch.randint(3, 40, (2, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    whole, without = filtered(batch), filtered(batch, need_logits=False)
    assert whole.logits.shape == (2, 9, 40)
    assert torch.allclose(without.logits, whole.logits[:, -1:])
    assert all(torch.equal(a, b) for a, b in zip(whole.states, without.states, strict=True))
