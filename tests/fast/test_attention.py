"""Fast disentangled attention against that of transformers: outputs, gradients, and nothing left behind."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from ted_distill.fast.attention import undo_fast_attention, use_fast_attention
from ted_distill.fast.disentangled_attention import FastDisentangledSelfAttention
from tiny import padded_batch, tiny_config

CONFIGS: dict[str, dict[str, Any]] = {
    "p2c, c2p": {},
    "c2p, p2c, own projections": {"pos_att_type": ["c2p", "p2c"], "share_att_key": False},
    "only c2p": {"pos_att_type": ["c2p"]},
    "only p2c": {"pos_att_type": ["p2c"]},
    "only c2p, own projection": {"pos_att_type": ["c2p"], "share_att_key": False},
    "only p2c, own projection": {"pos_att_type": ["p2c"], "share_att_key": False},
    "neither": {"pos_att_type": []},
    "no buckets": {"position_buckets": -1},
    "no buckets, farthest position 6": {"position_buckets": -1, "max_relative_positions": 6},
    "buckets, farthest position 20": {"max_relative_positions": 20},
    "no relative attention": {"relative_attention": False, "position_biased_input": True},
    "convolution": {"conv_kernel_size": 3},
}


def _pair(dropout: float = 0.0, dtype: torch.dtype = torch.float64, **changes: Any) -> list[PreTrainedModel]:
    """A plain model and a fast copy; weights large enough that the positions matter."""
    torch.manual_seed(0)
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    plain = AutoModel.from_config(tiny_config("deberta-v2", initializer_range=0.5, **(dropouts | changes))).to(dtype)
    fast = copy.deepcopy(plain)
    assert use_fast_attention(fast) == plain.config.num_hidden_layers
    return [plain.train(), fast.train()]


def _states(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).last_hidden_state


def _step(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """States and gradients of a loss on the real tokens, dropout drawn from the same seed."""
    torch.manual_seed(1)
    model.zero_grad()
    states = model(**batch).last_hidden_state
    (states.pow(3) * batch["attention_mask"].unsqueeze(-1)).mean().backward()
    return states.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _assert_same_step(plain: nn.Module, fast: nn.Module, batch: dict[str, Tensor]) -> None:
    (states, gradients), (fast_states, fast_gradients) = _step(plain, batch), _step(fast, batch)
    torch.testing.assert_close(fast_states, states, rtol=0, atol=1e-12)
    # In the plain model a projection that no score uses may take part in the graph with gradient zero.
    zeros = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    torch.testing.assert_close(zeros | fast_gradients, gradients, rtol=1e-10, atol=1e-12)


# --- the same numbers -----------------------------------------------------------------------------------------


# Position buckets begin to widen at 4, half of 8; the tables have 16 rows and 140; rows come in blocks of 128.
@pytest.mark.parametrize("tokens", [1, 2, 3, 9, 40, 150])
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS.keys())
def test_states_and_gradients_are_those_of_transformers(changes: dict[str, Any], tokens: int) -> None:
    if changes.get("position_biased_input"):
        tokens = min(tokens, 70)
    plain, fast = _pair(**changes)
    batch = padded_batch(tokens)
    _assert_same_step(plain, fast, batch)
    torch.testing.assert_close(_states(fast, batch), _states(plain, batch), rtol=0, atol=1e-12)


def test_longer_than_the_table_of_deberta_v3() -> None:
    changes = {"position_buckets": 256, "max_position_embeddings": 512, "num_hidden_layers": 1}
    plain = AutoModel.from_config(tiny_config("deberta-v2", initializer_range=0.5, **changes)).double().eval()
    fast = copy.deepcopy(plain)
    use_fast_attention(fast)
    for tokens in (300, 600):
        batch = padded_batch(tokens, rows=2)
        torch.testing.assert_close(_states(fast, batch), _states(plain, batch), rtol=0, atol=1e-12)


def test_positions_matter_in_these_models() -> None:
    plain, _ = _pair()
    batch = padded_batch(9)
    before = _states(plain, batch)
    table = plain.encoder.rel_embeddings.weight
    table.data = table.data.flip(0)
    assert (_states(plain, batch) - before).abs().max() > 0.1


def test_dropout_draws_the_same_numbers() -> None:
    for tokens in (9, 150):
        _assert_same_step(*_pair(dropout=0.3), padded_batch(tokens))


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(reentrant: bool) -> None:
    # Reentrant checkpoints of transformers' own layers fail where the table of positions has a graph of its own.
    plain, fast = _pair(dropout=0.3, norm_rel_ebd="none" if reentrant else "layer_norm")
    # Versions of transformers differ in the name.
    name = "activation" if hasattr(fast, "activation_checkpointing_enable") else "gradient"
    getattr(fast, f"{name}_checkpointing_enable")({"use_reentrant": reentrant})
    fast.enable_input_require_grads()
    _assert_same_step(plain, fast, padded_batch(9))


def test_padding_does_not_change_real_tokens() -> None:
    _, fast = _pair()
    batch = padded_batch(12)
    alone = {name: tensor[2:, :4] for name, tensor in batch.items()}
    torch.testing.assert_close(_states(fast, batch)[2:, :4], _states(fast, alone), rtol=0, atol=1e-12)


def test_a_mask_for_each_query_is_obeyed() -> None:
    mask = torch.ones(3, 1, 9, 9, dtype=torch.long).tril()
    relative_pos = (torch.arange(9).unsqueeze(1) - torch.arange(9)).clamp(-8, 8).unsqueeze(0)
    torch.manual_seed(1)
    hidden_states, table = torch.randn(3, 9, 16, dtype=torch.float64), torch.randn(16, 16, dtype=torch.float64)
    contexts = []
    for model in _pair():
        with torch.no_grad():
            attention = model.encoder.layer[0].attention.self
            contexts.append(attention(hidden_states, mask, relative_pos=relative_pos, rel_embeddings=table)[0])
    torch.testing.assert_close(*contexts, rtol=0, atol=1e-12)


def test_asked_for_attentions_they_are_returned() -> None:
    plain, fast = _pair()
    attentions = [model(**padded_batch(9), output_attentions=True).attentions for model in (plain, fast)]
    torch.testing.assert_close(*attentions, rtol=0, atol=0)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_as_near_to_float64_as_in_transformers(autocast: bool, graph: bool) -> None:
    exact, _ = _pair()
    models = _pair(dtype=torch.float32 if autocast else torch.bfloat16)
    batch = padded_batch(40)
    errors = []
    for model in models:
        model.load_state_dict(exact.state_dict())
        with torch.set_grad_enabled(graph), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            states = model(**batch).last_hidden_state
        assert states.dtype == (torch.float32 if autocast else torch.bfloat16)
        real = batch["attention_mask"].bool()
        errors.append((states.detach().double() - _states(exact, batch))[real].square().mean().sqrt())
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.long
def test_the_model_compiles_without_a_graph_break_and_once_for_many_lengths() -> None:
    plain, fast = _pair(num_hidden_layers=1)
    fast.compile(backend="aot_eager", fullgraph=True, dynamic=True)
    _assert_same_step(plain, fast, padded_batch(9))
    with torch.compiler.set_stance("fail_on_recompile"):
        _assert_same_step(plain, fast, padded_batch(30))
    torch._dynamo.reset()


# --- on, off, and nothing left behind -------------------------------------------------------------------------


def test_the_switch_counts_what_it_changes() -> None:
    plain, fast = _pair()
    assert undo_fast_attention(plain) == 0
    assert use_fast_attention(fast) == 0
    assert undo_fast_attention(fast) == 2
    assert use_fast_attention(AutoModel.from_config(tiny_config("bert"))) == 0


def test_switched_off_the_modules_are_what_they_were() -> None:
    plain, fast = _pair()
    undo_fast_attention(fast)
    for before, after in zip(plain.modules(), fast.modules(), strict=True):
        assert type(after) is type(before)
        assert vars(after).keys() == vars(before).keys()
    assert torch.equal(_states(fast, padded_batch(9)), _states(plain, padded_batch(9)))


def test_saved_models_are_the_same_files(tmp_path: Path) -> None:
    for name, model in zip(("plain", "fast"), _pair(), strict=True):
        model.save_pretrained(tmp_path / name)
    assert (tmp_path / "fast/config.json").read_text() == (tmp_path / "plain/config.json").read_text()
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("plain", "fast")]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    loaded = AutoModel.from_pretrained(tmp_path / "fast")
    assert {type(layer.attention.self) for layer in loaded.encoder.layer} == {DisentangledSelfAttention}


def test_copies_and_pickles_stay_fast_and_stand_alone() -> None:
    _, fast = _pair()
    states = _states(fast, padded_batch(9))
    copies = [copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))]
    for parameter in fast.parameters():
        parameter.data.zero_()
    for model in copies:
        assert type(model.encoder.layer[0].attention.self) is FastDisentangledSelfAttention
        assert torch.equal(_states(model, padded_batch(9)), states)


# --- other families -------------------------------------------------------------------------------------------

OTHER_FAMILY = """
import sys
import torch
from transformers import BertConfig, BertModel
from ted_distill.training.speed import undo_fast_modules, use_fast_modules
from ted_distill.training.stage_arguments import StageArguments

config = BertConfig(vocab_size=40, hidden_size=16, num_attention_heads=2, intermediate_size=24, num_hidden_layers=1)
model = BertModel(config)
use_fast_modules(model, StageArguments(sys.argv[1], use_cpu=True))
model(torch.ones(1, 3, dtype=torch.long))
undo_fast_modules(model)
print(sorted(name for name in sys.modules if name.startswith("transformers.models.deberta_v2")))
"""


@pytest.mark.long
def test_a_bert_needs_nothing_of_deberta(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", OTHER_FAMILY, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert said.stdout.splitlines()[-1] == "[]"


def test_a_deberta_inside_another_model_is_found() -> None:
    plain, fast = _pair()
    undo_fast_attention(fast)
    assert use_fast_attention(nn.Sequential(nn.Linear(1, 1), fast)) == 2
    _assert_same_step(plain, fast, padded_batch(9))
