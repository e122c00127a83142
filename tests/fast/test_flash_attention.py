"""The attention of `disentangled-flash` against that of transformers: states, gradients, and nothing left behind.

On the CPU with the package's own twin of its kernels; what needs a GPU is skipped without one.
"""

from __future__ import annotations

import copy
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Encoder

from ted_distill.errors import InputError
from ted_distill.fast.attention import undo_fast_attention, use_fast_attention
from ted_distill.fast.dropout import use_fast_dropout
from ted_distill.fast.flash_attention import flash_attention_available, undo_flash_attention, use_flash_attention
from ted_distill.models.dropout import turn_off_dropout
from tiny import padded_batch, tiny_config

needs_package = pytest.mark.skipif(
    find_spec("disentangled_flash") is None, reason="disentangled-flash is not installed (extra `gpu`)"
)
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or not flash_attention_available(torch.device("cuda")),
    reason="an NVIDIA GPU and disentangled-flash are needed",
)
both_kinds = pytest.mark.parametrize("training", [True, False], ids=["training", "frozen"])

CONFIGS: dict[str, dict[str, Any]] = {
    "p2c, c2p": {},
    "own projections": {"pos_att_type": ["c2p", "p2c"], "share_att_key": False},
    "only c2p": {"pos_att_type": ["c2p"]},
    "only p2c, own projection": {"pos_att_type": ["p2c"], "share_att_key": False},
    "neither": {"pos_att_type": []},
    "no buckets, farthest position 6": {"position_buckets": -1, "max_relative_positions": 6},
    "convolution": {"conv_kernel_size": 3},
}


def _model(dropout: float = 0.0, **changes: Any) -> PreTrainedModel:
    """Weights large enough that the positions matter."""
    torch.manual_seed(0)
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = tiny_config("deberta-v2", initializer_range=0.5, **(dropouts | changes))
    return AutoModel.from_config(config).double().train()


def _use(model: nn.Module, training: bool = True) -> nn.Module:
    """The model with flash attention on the CPU."""
    if not training:
        model.requires_grad_(False).eval()
    assert use_flash_attention(model, training=training, backend="torch")
    return model


def _states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """All hidden states, (L + 1, B, T, D)."""
    with torch.no_grad():
        return torch.stack(model(**batch, output_hidden_states=True).hidden_states)


def _gradients(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a loss on the real tokens of all hidden states."""
    torch.manual_seed(1)
    model.zero_grad()
    states = torch.stack(model(**batch, output_hidden_states=True).hidden_states)
    (states.pow(3) * batch["attention_mask"].unsqueeze(-1)).mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def _assert_near(actual: Any, expected: Any) -> None:
    # transformers rounds the scale of the scores to float32, the package does not.
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def _assert_same_states(plain: nn.Module, flash: nn.Module, batch: dict[str, Tensor]) -> None:
    real = batch["attention_mask"].bool()
    plain_states, flash_states = _states(plain, batch), _states(flash, batch)
    _assert_near(flash_states[:, real], plain_states[:, real])
    # Which also says that it was the package that computed them.
    assert flash_states[:, ~real].count_nonzero() == 0


# --- the same numbers -----------------------------------------------------------------------------------------


@needs_package
@both_kinds
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_all_hidden_states_are_those_of_transformers(changes: dict[str, Any], training: bool) -> None:
    plain = _model(**changes).eval()
    flash = _use(copy.deepcopy(plain), training)
    for tokens in (1, 9, 40, 150):
        _assert_same_states(plain, flash, padded_batch(tokens))
    states = flash(**padded_batch(9), return_dict=False)
    assert len(states) == 1
    assert torch.equal(states[0], flash(**padded_batch(9)).last_hidden_state)


@needs_package
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_gradients_are_those_of_transformers(changes: dict[str, Any]) -> None:
    plain = _model(**changes)
    flash = _use(copy.deepcopy(plain))
    for tokens in (1, 9, 40):
        _assert_near(_gradients(flash, padded_batch(tokens)), _gradients(plain, padded_batch(tokens)))


@needs_package
@both_kinds
def test_a_classifier_gives_the_same_logits(training: bool) -> None:
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_config(tiny_config("deberta-v2")).eval()
    flash = _use(copy.deepcopy(plain), training)
    with torch.no_grad():
        torch.testing.assert_close(flash(**padded_batch(9)).logits, plain(**padded_batch(9)).logits)


@needs_package
@both_kinds
def test_padding_does_not_change_real_tokens(training: bool) -> None:
    flash, batch = _use(_model(conv_kernel_size=3).eval(), training), padded_batch(12)
    alone = {name: tensor[2:, :4] for name, tensor in batch.items()}
    torch.testing.assert_close(_states(flash, batch)[:, 2:, :4], _states(flash, alone), rtol=0, atol=1e-12)


@needs_package
def test_dropout_falls_only_in_training() -> None:
    flash, batch = _use(_model(attention_probs_dropout_prob=0.5)), padded_batch(9)
    assert not torch.equal(_states(flash, batch), _states(flash, batch))
    flash.eval()
    assert torch.equal(_states(flash, batch), _states(flash, batch))


@needs_package
def test_a_model_whose_dropout_was_turned_off_uses_it_without_dropout() -> None:
    """As students are, while their config goes on naming a rate."""
    plain, batch = _model(dropout=0.5), padded_batch(9)
    turn_off_dropout(plain)
    flash = _use(copy.deepcopy(plain))
    _assert_same_states(plain, flash, batch)
    assert flash.training
    assert flash.config.attention_probs_dropout_prob == 0.5


@needs_package
def test_blocks_of_different_rates_are_left_alone() -> None:
    model = _model(dropout=0.5)
    model.encoder.layer[1].attention.self.dropout.p = 0.1
    assert not use_flash_attention(model, training=True, backend="torch")


@needs_package
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant: bool) -> None:
    # Reentrant checkpoints of transformers' own layers fail where the table of positions has a graph of its own.
    flash = _use(_model(dropout=0.3, norm_rel_ebd="none" if reentrant else "layer_norm"))
    before = {name: gradient.clone() for name, gradient in _gradients(flash, padded_batch(9)).items()}
    # Versions of transformers differ in the name.
    name = "activation" if hasattr(flash, "activation_checkpointing_enable") else "gradient"
    getattr(flash, f"{name}_checkpointing_enable")({"use_reentrant": reentrant})
    flash.enable_input_require_grads()
    torch.testing.assert_close(_gradients(flash, padded_batch(9)), before)


@needs_package
@both_kinds
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_as_near_to_float64_as_in_transformers(autocast: bool, training: bool) -> None:
    exact, batch = _model().eval(), padded_batch(40)
    plain = copy.deepcopy(exact).to(torch.float32 if autocast else torch.bfloat16)
    flash = _use(copy.deepcopy(plain), training)
    errors = []
    for model in (plain, flash):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            states = _states(model, batch)
        real = batch["attention_mask"].bool()
        errors.append((states.double() - _states(exact, batch))[:, real].square().mean().sqrt())
    assert errors[1] < 1.2 * errors[0]


@needs_package
def test_a_frozen_model_may_run_with_and_without_autocast() -> None:
    plain = _model().float().eval()
    flash = _use(copy.deepcopy(plain), training=False)
    before = _states(flash, padded_batch(9))
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(_states(flash, padded_batch(9)), before)
    assert torch.equal(_states(flash, padded_batch(9)), before)


@needs_package
@both_kinds
def test_what_the_package_cannot_do_is_computed_as_before(training: bool) -> None:
    plain, batch = _model().eval(), padded_batch(9)
    flash = _use(copy.deepcopy(plain), training)
    empty_row, left_padded, for_each_query = (dict(batch) for _ in range(3))
    empty_row["attention_mask"] = batch["attention_mask"] * torch.tensor([[1], [0], [1]])
    left_padded["attention_mask"] = batch["attention_mask"].flip(1)
    for_each_query |= {"attention_mask": torch.ones(3, 9, 9).tril(), "inputs_embeds": torch.randn(3, 9, 16).double()}
    del for_each_query["input_ids"]
    for unusual in (empty_row, left_padded):
        assert torch.equal(_states(flash, unusual), _states(plain, unusual))
    contexts = [
        model.encoder(for_each_query["inputs_embeds"], for_each_query["attention_mask"]).last_hidden_state
        for model in (plain, flash)
    ]
    assert torch.equal(*contexts)
    attentions = [model(**batch, output_attentions=True).attentions for model in (plain, flash)]
    torch.testing.assert_close(*attentions, rtol=0, atol=0)


@pytest.mark.long
@needs_package
def test_a_compiled_model_is_one_graph_without_the_package() -> None:
    plain = _model(num_hidden_layers=1)
    flash = copy.deepcopy(plain)
    use_fast_attention(flash)
    _use(flash)
    flash.compile(backend="eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(_gradients(flash, padded_batch(9)), _gradients(plain, padded_batch(9)))
    torch._dynamo.reset()


# --- weights and modes ----------------------------------------------------------------------------------------


@needs_package
def test_parameters_stay_the_same_objects_in_the_same_order() -> None:
    model = _model(share_att_key=False, conv_kernel_size=3)
    before, random = list(model.named_parameters()), torch.get_rng_state()
    _use(model)
    assert torch.equal(torch.get_rng_state(), random)
    _gradients(model, padded_batch(9))
    after = list(model.named_parameters())
    assert [name for name, _ in after] == [name for name, _ in before]
    assert all(new is old for (_, new), (_, old) in zip(after, before, strict=True))


@needs_package
def test_an_optimizer_made_before_trains_the_model() -> None:
    models = [_model(), _use(_model())]
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in models]
    use_flash_attention(models[1], training=True, backend="torch")
    for model, optimizer in zip(models, optimizers, strict=True):
        for _ in range(2):
            _gradients(model, padded_batch(9))
            optimizer.step()
    assert not torch.equal(_states(models[0], padded_batch(9)), _states(_model(), padded_batch(9)))
    _assert_same_states(*models, padded_batch(9))


@needs_package
def test_it_trains_after_it_was_scored_in_inference_mode() -> None:
    plain = _model()
    flash = _use(copy.deepcopy(plain))
    with torch.inference_mode():
        scored = flash.eval()(**padded_batch(9)).last_hidden_state
    flash.train()
    _assert_near(_gradients(flash, padded_batch(9)), _gradients(plain, padded_batch(9)))
    _assert_near(scored[0], _states(plain, padded_batch(9))[-1, 0])


@needs_package
def test_a_frozen_model_runs_in_every_mode() -> None:
    flash = _use(_model(), training=False)
    with torch.inference_mode():
        states = flash(**padded_batch(9)).last_hidden_state
    assert torch.equal(states, _states(flash, padded_batch(9))[-1])
    with_gradients_on = flash(**padded_batch(9)).last_hidden_state
    assert torch.equal(states, with_gradients_on)
    assert not with_gradients_on.requires_grad


@needs_package
def test_without_training_gradients_come_from_the_modules_before() -> None:
    flash, plain = _use(_model(), training=False), _model().eval()
    _states(flash, padded_batch(9))
    _assert_near(_gradients(flash.requires_grad_(True), padded_batch(9)), _gradients(plain, padded_batch(9)))


@needs_package
def test_a_model_that_learns_is_refused_without_training() -> None:
    with pytest.raises(ValueError, match="freeze the model first"):
        use_flash_attention(_model(), training=False, backend="torch")


@needs_package
def test_a_frozen_model_sees_weights_that_are_loaded_later() -> None:
    flash, other = _use(_model(), training=False), _model().eval()
    _states(flash, padded_batch(9))
    for parameter in other.parameters():
        parameter.data.mul_(-0.7)
    flash.load_state_dict(other.state_dict())
    _assert_same_states(other, flash, padded_batch(9))


@needs_package
def test_a_frozen_model_sees_weights_that_are_replaced_later() -> None:
    flash, other = _use(_model(), training=False), _model().eval()
    _states(flash, padded_batch(9))
    for weight, new in zip(flash.parameters(), other.parameters(), strict=True):
        weight.data = new.data = new.data * -0.7
    _assert_same_states(other, flash, padded_batch(9))


@needs_package
@both_kinds
def test_a_model_may_be_cast_while_it_is_on(training: bool) -> None:
    plain = _model().eval()
    flash = _use(copy.deepcopy(plain), training)
    _states(flash, padded_batch(9))
    assert _states(flash.float(), padded_batch(9)).dtype == torch.float32
    rounded = plain.float().double()
    _assert_same_states(rounded, flash.double(), padded_batch(9))


# --- on, off, and nothing left behind -------------------------------------------------------------------------


@needs_package
@both_kinds
@pytest.mark.parametrize("fast", [False, True])
def test_switched_off_the_modules_are_what_they_were(training: bool, fast: bool) -> None:
    plain = _model(conv_kernel_size=3).eval()
    if fast:
        use_fast_attention(plain)
        use_fast_dropout(plain)
    flash = copy.deepcopy(plain)
    if not training:
        flash.requires_grad_(False)
    assert undo_flash_attention(flash) == 0
    _states(_use(flash, training), padded_batch(9))
    assert undo_flash_attention(flash.train()) == 1
    assert undo_flash_attention(flash) == 0
    for before, after in zip(plain.train().modules(), flash.modules(), strict=True):
        assert type(after) is type(before)
        assert vars(after).keys() == vars(before).keys()
        assert after.training
    assert torch.equal(_states(flash, padded_batch(9)), _states(plain, padded_batch(9)))
    assert undo_fast_attention(flash) == (2 if fast else 0)
    assert all(weight.untyped_storage().nbytes() == weight.nbytes for weight in flash.parameters())


@needs_package
@both_kinds
def test_saved_models_are_the_same_files(training: bool, tmp_path: Path) -> None:
    plain = _model().eval()
    flash = _use(copy.deepcopy(plain), training)
    _states(flash, padded_batch(9))
    assert flash.state_dict().keys() == plain.state_dict().keys()
    for name, model in {"plain": plain, "flash": flash, "undone": flash}.items():
        if name == "undone":
            undo_flash_attention(model)
        model.save_pretrained(tmp_path / name)
        assert (tmp_path / name / "config.json").read_text() == (tmp_path / "plain/config.json").read_text()
        weights = load_file(tmp_path / name / "model.safetensors")
        torch.testing.assert_close(weights, load_file(tmp_path / "plain/model.safetensors"), rtol=0, atol=0)
    assert type(AutoModel.from_pretrained(tmp_path / "flash").encoder) is DebertaV2Encoder


@needs_package
def test_copies_and_pickles_of_a_model_that_is_trained_stand_alone() -> None:
    flash = _use(_model().eval(), training=True)
    states = _states(flash, padded_batch(9))
    copies = [copy.deepcopy(flash), pickle.loads(pickle.dumps(flash))]
    for parameter in flash.parameters():
        parameter.data.zero_()
    for model in copies:
        assert torch.equal(_states(model, padded_batch(9)), states)
        assert undo_flash_attention(model) == 1
        _assert_near(_states(model, padded_batch(9))[:, 0], states[:, 0])


@needs_package
@pytest.mark.parametrize(
    "changes",
    [
        {"relative_attention": False, "position_biased_input": True},
        {"attention_head_size": 4},
        {"attention_probs_dropout_prob": 1.0},
    ],
    ids=["no relative attention", "heads narrower than the model", "everything dropped"],
)
def test_a_model_that_the_package_does_not_know_is_left_alone(changes: dict[str, Any]) -> None:
    model = _model(**changes)
    assert not use_flash_attention(model, training=True, backend="torch")
    assert type(model.encoder) is DebertaV2Encoder


def test_a_width_of_heads_without_a_kernel_is_left_alone() -> None:
    assert not use_flash_attention(_model(), training=True)


def test_an_adapter_around_a_projection_is_left_alone() -> None:
    model = _model()
    attention = model.encoder.layer[1].attention.self
    attention.query_proj = nn.Sequential(attention.query_proj)
    assert not use_flash_attention(model, training=True, backend="torch")


def test_another_family_is_left_alone() -> None:
    assert not use_flash_attention(AutoModel.from_config(tiny_config("bert")), training=True)


# --- is it there ----------------------------------------------------------------------------------------------


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "disentangled_flash", None)
    model = _model()
    with pytest.raises(InputError, match=r"pip install 'ted-distill\[gpu\]'"):
        use_flash_attention(model, training=True, backend="torch")
    assert type(model.encoder) is DebertaV2Encoder


def test_without_triton_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(InputError, match=r"pip install 'ted-distill\[gpu\]'"):
        use_flash_attention(_model(hidden_size=64), training=True)


@pytest.mark.parametrize("missing", ["disentangled_flash", "triton", "the GPU is too old", "it is from AMD", ""])
def test_it_is_available_with_the_package_and_a_recent_gpu(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("disentangled_flash", "triton"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else ModuleType(name))
    capability = (7, 5) if missing == "the GPU is too old" else (8, 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "cuda", None if missing == "it is from AMD" else "13.0")
    assert flash_attention_available(torch.device("cuda", 0)) == (missing == "")
    assert not flash_attention_available(torch.device("cpu"))


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="expected triton or torch, got cuda"):
        use_flash_attention(_model(), training=True, backend="cuda")


# --- the kernels themselves -----------------------------------------------------------------------------------


@needs_gpu
@both_kinds
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_on_a_gpu_bfloat16_is_as_near_to_float64_as_in_transformers(
    changes: dict[str, Any], autocast: bool, training: bool
) -> None:
    exact = _model(hidden_size=64, **changes).cuda()
    plain = copy.deepcopy(exact).to(torch.float32 if autocast else torch.bfloat16)
    flash = copy.deepcopy(plain).requires_grad_(training).train(training)
    assert use_flash_attention(flash, training=training)
    for tokens in (9, 40, 150):
        batch = {name: tensor.cuda() for name, tensor in padded_batch(tokens).items()}
        real = batch["attention_mask"].bool()
        found = []
        for model in (exact, plain, flash):
            with torch.autocast("cuda", torch.bfloat16, enabled=autocast and model is not exact):
                with torch.inference_mode():
                    states = model(**batch, output_hidden_states=True).hidden_states
                gradients = _gradients(model, batch) if training else {}
            used = [gradient.flatten() for name, gradient in sorted(gradients.items()) if "bias" not in name]
            found.append([torch.stack(states)[:, real].double(), torch.cat([torch.zeros(1).cuda(), *used]).double()])
            assert model is not flash or torch.stack(states)[:, ~real].count_nonzero() == 0
        for wanted, of_plain, of_flash in zip(*found, strict=True):
            # In so small a model either may be twice as far by chance; a wrong term would be much farther.
            assert (of_flash - wanted).norm() <= 4 * (of_plain - wanted).norm()
