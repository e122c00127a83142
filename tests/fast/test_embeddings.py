"""Embeddings of which only seen rows are trained, against `nn.Embedding`: outputs, steps, and nothing left behind."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Features, LargeList, List, Value
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    T5Config,
    T5Model,
)

from ted_distill.fast.embeddings import SeenEmbedding, seen_tokens, undo_seen_embeddings, use_seen_embeddings
from tiny import FAMILIES, tiny_config

SEEN = torch.tensor([9, 0, 1, 2, 31, 17, 8, 22, 39])  # of 40; 0 is the padding
TRAINED = SEEN[SEEN > 0]
UNSEEN = torch.tensor([row for row in range(40) if row not in SEEN.tolist()])


def _model(family: str = "deberta-v2", **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    dropouts = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return AutoModelForSequenceClassification.from_config(tiny_config(family, **(dropouts | changes))).train()


def _pair(family: str = "deberta-v2", dtype: torch.dtype = torch.float32) -> list[PreTrainedModel]:
    """A plain model and a copy that trains seen rows only; no row is zero, that of the padding neither."""
    plain = _model(family).to(dtype)
    nn.init.normal_(plain.get_input_embeddings().weight)
    swapped = copy.deepcopy(plain)
    assert use_seen_embeddings(swapped, SEEN) == len(TRAINED)
    return [plain, swapped]


def _batch(seed: int = 0, ids: Tensor = TRAINED) -> dict[str, Tensor]:
    """Four rows of `ids`, each shorter than the one before, and labels. Repeated tokens add up their gradients."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(12) < torch.tensor([[12], [9], [6], [3]])).long()
    tokens = ids[torch.randint(len(ids), mask.shape, generator=generator)] * mask
    return {"input_ids": tokens, "attention_mask": mask, "labels": torch.arange(4) % 2}


def _logits(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


def _table(model: PreTrainedModel) -> Tensor:
    """A copy of the table as it would be saved."""
    (name,) = [name for name in model.state_dict() if name.endswith("word_embeddings.weight")]
    return model.state_dict()[name].clone()


def _train(model: PreTrainedModel, steps: int = 3, max_norm: float | None = None, fused: bool = False) -> None:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.01, weight_decay=0.0, fused=fused)
    for step in range(steps):
        model(**_batch(step)).loss.backward()
        if max_norm is not None:
            assert nn.utils.clip_grad_norm_(model.parameters(), max_norm) > max_norm
        optimizer.step()
        optimizer.zero_grad()


# --- the same numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("ids", [TRAINED, UNSEEN, torch.arange(40)], ids=["seen", "unseen", "both"])
def test_seen_and_unseen_tokens_have_the_embeddings_they_had(ids: Tensor, training: bool, family: str) -> None:
    plain, swapped = (model.train(training) for model in _pair(family))
    batch = _batch(ids=ids)
    assert torch.equal(_logits(swapped, batch), _logits(plain, batch))


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_ids_may_have_any_shape_and_type(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    plain, swapped = (model.get_input_embeddings() for model in _pair())
    ids = torch.randint(40, shape).to(dtype)
    assert torch.equal(swapped(ids), plain(ids))


@pytest.mark.parametrize("ids", [[-1], [40]])
def test_ids_outside_of_the_table_are_errors_as_before(ids: list[int]) -> None:
    for model in _pair():
        with pytest.raises(IndexError):
            model.get_input_embeddings()(torch.tensor(ids))


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_gradients_are_those_of_the_whole_table_row_by_row(family: str) -> None:
    plain, swapped = _pair(family)
    for model in (plain, swapped):
        model(**_batch()).loss.backward()
    gradient = plain.get_input_embeddings().weight.grad
    table = swapped.get_input_embeddings()
    assert table.weight.grad is None
    assert gradient[TRAINED].abs().amax(dim=1).min() > 0
    assert gradient[UNSEEN].abs().max() == 0
    assert torch.equal(table.seen.grad, gradient[TRAINED.sort().values])
    others = {name: weight.grad for name, weight in swapped.named_parameters() if ".word_embeddings." not in name}
    assert len(others) > 10
    assert all(torch.equal(grad, plain.get_parameter(name).grad) for name, grad in others.items())


def test_unseen_tokens_in_a_training_batch_get_no_gradient_and_take_none_from_others() -> None:
    plain, swapped = (model.get_input_embeddings() for model in _pair())
    ids = torch.tensor([[9, 5, 9, 6, 1, 0]])
    for table in (plain, swapped):
        table(ids).pow(2).sum().backward()
    assert swapped.weight.grad is None
    assert torch.equal(swapped.seen.grad, plain.weight.grad[TRAINED.sort().values])


def test_the_padding_gets_no_gradient_even_where_the_loss_sees_it() -> None:
    tables = [model.get_input_embeddings() for model in _pair()]
    before = tables[0].weight[0].clone()
    for table in tables:
        table.requires_grad_(True)  # as by thawing the whole model
        table(torch.tensor([[0, 0, 9]])).sum().backward()
    plain, swapped = tables
    assert plain.weight.grad[0].abs().max() == 0
    assert swapped.weight.grad is None
    assert swapped.seen.grad.abs().sum() == plain.weight.grad.abs().sum() > 0
    assert torch.equal(swapped(torch.tensor(0)), before)


def test_row_zero_is_trained_where_it_is_not_the_padding() -> None:
    model = _model("bert", pad_token_id=3)
    assert use_seen_embeddings(model, torch.tensor([0, 3, 5])) == 2
    table = model.get_input_embeddings()
    table(torch.tensor([0, 0, 3, 4, 7])).sum().backward()
    assert torch.equal(table.seen.grad, torch.tensor([[2.0], [0.0]]).expand(2, 16))


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
@pytest.mark.parametrize("fused", [False, True])
def test_ten_steps_give_the_same_weights(fused: bool, family: str) -> None:
    plain, swapped = _pair(family)
    before = _table(plain)
    for model in (plain, swapped):
        _train(model, steps=10, fused=fused)
    torch.testing.assert_close(swapped.state_dict(), plain.state_dict(), rtol=0, atol=0)
    after = _table(swapped)
    assert torch.equal(after[UNSEEN], before[UNSEEN])
    assert torch.equal(after[0], before[0])
    assert (after - before)[TRAINED].abs().amax(dim=1).min() > 0.01


@pytest.mark.parametrize("fused", [False, True])
def test_ten_clipped_steps_give_the_same_weights_to_rounding(fused: bool) -> None:
    # The norm of all gradients is summed up in another order.
    models = _pair(dtype=torch.float64)
    before = _table(models[0])
    for model in models:
        _train(model, steps=10, max_norm=1e-3, fused=fused)
    torch.testing.assert_close(*(model.state_dict() for model in models), rtol=0, atol=1e-12)
    assert torch.equal(_table(models[1])[UNSEEN], before[UNSEEN])


def test_the_optimizer_holds_the_seen_rows_only() -> None:
    _, swapped = _pair()
    trained = {name: weight.shape for name, weight in swapped.named_parameters() if weight.requires_grad}
    assert trained["deberta.embeddings.word_embeddings.seen"] == (len(TRAINED), 16)
    assert "deberta.embeddings.word_embeddings.weight" not in trained


def test_a_gradient_from_before_does_not_count() -> None:
    model = _model()
    model(**_batch()).loss.backward()
    use_seen_embeddings(model, SEEN)
    assert model.get_input_embeddings().weight.grad is None


def test_other_types_and_autocast_change_nothing() -> None:
    plain, swapped = _pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_logits(swapped, _batch()), _logits(plain, _batch()))
    for model in (plain, swapped):
        model.to(torch.bfloat16)
    assert swapped.get_input_embeddings().row_of.dtype == torch.int64
    assert torch.equal(_logits(swapped, _batch()), _logits(plain, _batch()))
    assert {tensor.device.type for tensor in swapped.to("meta").get_input_embeddings().buffers()} == {"meta"}


@pytest.mark.long
def test_the_model_compiles_without_a_graph_break() -> None:
    plain, swapped = _pair("bert")
    compiled = copy.deepcopy(swapped)
    compiled.compile(backend="aot_eager", fullgraph=True)
    for batch in (_batch(), _batch(ids=UNSEEN)):
        torch.testing.assert_close(_logits(compiled, batch), _logits(plain, batch))
    for model in (compiled, swapped):
        model(**_batch()).loss.backward()
    torch.testing.assert_close(*(model.get_input_embeddings().seen.grad for model in (compiled, swapped)))
    torch._dynamo.reset()


# --- saved and loaded -----------------------------------------------------------------------------------------


def test_state_dicts_are_those_of_a_plain_model_at_any_time() -> None:
    plain, swapped = _pair()
    for _ in range(3):
        states, expected = swapped.state_dict(), plain.state_dict()
        assert list(states) == list(expected)
        torch.testing.assert_close(states, expected, rtol=0, atol=0)
        for model in (plain, swapped):
            _train(model)
    kept = swapped.state_dict(keep_vars=True)["deberta.embeddings.word_embeddings.weight"]
    assert kept is swapped.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_saved_models_are_the_same_files(family: str, tmp_path: Path) -> None:
    models = _pair(family)
    # Twice into the same folder, as the best model is.
    for _ in range(2):
        for name, model in zip(("plain", "swapped"), models, strict=True):
            _train(model)
            model.save_pretrained(tmp_path / name)
        weights = [load_file(tmp_path / name / "model.safetensors") for name in ("plain", "swapped")]
        torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert (tmp_path / "swapped/config.json").read_text() == (tmp_path / "plain/config.json").read_text()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "swapped")
    assert type(loaded.get_input_embeddings()) is nn.Embedding
    batch = _batch(ids=torch.arange(40))
    assert torch.equal(_logits(loaded, batch), _logits(models[0].eval(), batch))


@pytest.mark.parametrize("assign", [False, True])
def test_loading_sets_all_rows(assign: bool) -> None:
    plain, swapped = _pair()
    other = {name: torch.randn_like(tensor) for name, tensor in plain.state_dict().items()}
    for model in (plain, swapped):
        _train(model)
        model.load_state_dict({name: tensor.clone() for name, tensor in other.items()}, assign=assign)
    torch.testing.assert_close(swapped.state_dict(), other, rtol=0, atol=0)
    batch = _batch(ids=torch.arange(40))
    assert torch.equal(_logits(swapped, batch), _logits(plain, batch))
    # And what was loaded is what is trained.
    for model in (plain, swapped):
        _train(model)
    torch.testing.assert_close(swapped.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_assigned_rows_keep_their_type() -> None:
    plain, swapped = _pair()
    for model in (plain, swapped):
        model.load_state_dict({name: tensor.double() for name, tensor in plain.state_dict().items()}, assign=True)
    table = swapped.get_input_embeddings()
    assert table.seen.dtype == table.weight.dtype == torch.float64
    assert table.seen.requires_grad
    assert not table.weight.requires_grad
    assert torch.equal(_logits(swapped, _batch()), _logits(plain, _batch()))


def test_loading_keeps_the_parameters_that_the_optimizer_has() -> None:
    plain, swapped = _pair()
    before = dict(swapped.named_parameters())
    swapped.load_state_dict(plain.state_dict())
    after = dict(swapped.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is weight for name, weight in before.items())
    assert after["deberta.embeddings.word_embeddings.seen"].requires_grad
    assert not after["deberta.embeddings.word_embeddings.weight"].requires_grad


def test_what_cannot_be_loaded_is_named_as_for_a_plain_model_and_keeps_the_trained_rows() -> None:
    models = _pair()
    for model in models:
        _train(model)
    # The plain model's: to ask the other for its table would put the rows back.
    trained, name = _table(models[0]), "deberta.embeddings.word_embeddings.weight"
    states = {key: tensor.clone() for key, tensor in models[0].state_dict().items()}
    missing = {key: tensor for key, tensor in states.items() if key != name}
    wide, strange = states | {name: torch.ones(41, 16)}, states | {name.replace("weight", "seen"): torch.ones(8, 16)}
    for bad in (missing, wide, strange):
        messages = []
        for model in models:
            with pytest.raises(RuntimeError, match=r"(?i)missing|mismatch|unexpected") as error:
                model.load_state_dict(bad)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
        assert torch.equal(_table(models[1]), trained)
    assert tuple(models[1].load_state_dict(missing, strict=False)) == ([name], [])
    assert torch.equal(_table(models[1]), trained)


def test_a_training_resumed_from_a_checkpoint_ends_as_one_that_was_not_cut(tmp_path: Path) -> None:
    _, whole = _pair()
    cut = copy.deepcopy(whole)
    ends = []
    for model, saves in ((whole, False), (cut, True)):
        optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=0.01, weight_decay=0.0)
        for step in range(6):
            if saves and step == 3:
                model.save_pretrained(tmp_path)
                moments = copy.deepcopy(optimizer.state_dict())
                _, model = _pair()
                model.load_state_dict(load_file(tmp_path / "model.safetensors"))
                weights = [w for w in model.parameters() if w.requires_grad]
                optimizer = torch.optim.AdamW(weights, lr=0.01, weight_decay=0.0)
                optimizer.load_state_dict(moments)
            model(**_batch(step)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(model.state_dict())
    torch.testing.assert_close(*ends, rtol=0, atol=0)


# --- on, off, and nothing left behind -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_classify_are_changed_and_models_that_predict_tokens_are_not(family: str) -> None:
    assert use_seen_embeddings(AutoModelForSequenceClassification.from_config(tiny_config(family)), SEEN) == 8
    for tied in (True, False):
        model = AutoModelForMaskedLM.from_config(tiny_config(family, tie_word_embeddings=tied))
        assert use_seen_embeddings(model, SEEN) == 0
        assert type(model.get_input_embeddings()) is nn.Embedding


def test_tables_with_a_second_use_are_left_alone() -> None:
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=2, n_positions=8))
    t5 = T5Model(T5Config(vocab_size=40, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    new_head = AutoModelForMaskedLM.from_config(tiny_config("deberta-v2", legacy=False))
    named_twice, weight_twice = AutoModel.from_config(tiny_config("bert")), AutoModel.from_config(tiny_config("bert"))
    named_twice.again = named_twice.get_input_embeddings()
    weight_twice.projection = nn.Linear(16, 40)
    weight_twice.projection.weight = weight_twice.get_input_embeddings().weight
    for model in (gpt, t5, new_head, named_twice, weight_twice):
        assert use_seen_embeddings(model, SEEN) == 0
        assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("option", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_tables_with_options_are_left_alone(option: dict[str, Any]) -> None:
    model = _model()
    model.set_input_embeddings(nn.Embedding(40, 16, **option))
    assert use_seen_embeddings(model, SEEN) == 0


def test_frozen_and_unusual_tables_and_empty_selections_are_left_alone() -> None:
    class Other(nn.Embedding):
        pass

    frozen, other, swapped = _model(), _model(), _pair()[1]
    frozen.get_input_embeddings().requires_grad_(False)
    other.set_input_embeddings(Other(40, 16))
    for model in (frozen, other, swapped):
        names = [name for name, _ in model.named_parameters()]
        assert use_seen_embeddings(model, SEEN) == 0
        assert [name for name, _ in model.named_parameters()] == names
    assert not frozen.get_input_embeddings().weight.requires_grad
    for ids in ([], [0]):
        model = _model()
        assert use_seen_embeddings(model, torch.tensor(ids, dtype=torch.long)) == 0
        assert type(model.get_input_embeddings()) is nn.Embedding


def test_a_model_without_a_table_is_left_alone() -> None:
    class Tableless(type(_model())):
        def get_input_embeddings(self) -> nn.Module:
            raise NotImplementedError

    assert use_seen_embeddings(Tableless(tiny_config("deberta-v2")), SEEN) == 0


@pytest.mark.parametrize("ids", [[3, 40], [-1, 3]])
def test_ids_that_are_no_rows_are_refused(ids: list[int]) -> None:
    model = _model()
    with pytest.raises(ValueError, match=r"token_ids: expected 0 to 39, got \[(40|-1)\]"):
        use_seen_embeddings(model, torch.tensor(ids))
    assert type(model.get_input_embeddings()) is nn.Embedding


def test_ids_that_repeat_count_once() -> None:
    assert use_seen_embeddings(_model(), torch.tensor([5, 3, 5, 0, 3], dtype=torch.int32)) == 2


def test_switched_off_the_model_is_what_it_was() -> None:
    plain, swapped = _pair()
    parameters = dict(swapped.named_parameters())
    for model in (plain, swapped):
        _train(model)
    assert undo_seen_embeddings(swapped) == len(TRAINED)
    for before, after in zip(plain.modules(), swapped.modules(), strict=True):
        assert type(after) is type(before)
        assert vars(after).keys() == vars(before).keys()
    table = vars(swapped.get_input_embeddings())
    assert list(table["_parameters"]) == ["weight"]
    assert not table["_buffers"]
    assert not table["_non_persistent_buffers_set"]
    after = dict(swapped.named_parameters())
    assert list(after) == [name for name, _ in plain.named_parameters()]
    assert all(weight.requires_grad and weight is parameters[name] for name, weight in after.items())
    torch.testing.assert_close(swapped.state_dict(), plain.state_dict(), rtol=0, atol=0)
    for model in (plain, swapped):
        _train(model)
    torch.testing.assert_close(swapped.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert undo_seen_embeddings(swapped) == 0


def test_copies_and_pickles_stay_swapped_and_stand_alone() -> None:
    _, swapped = _pair()
    _train(swapped)
    batch = _batch(ids=torch.arange(40))
    logits, states = _logits(swapped, batch), copy.deepcopy(swapped.state_dict())
    _train(swapped)
    _, again = _pair()
    _train(again)
    copies = [copy.deepcopy(again), pickle.loads(pickle.dumps(again))]
    for parameter in again.parameters():
        parameter.data.zero_()
    for model in copies:
        assert type(model.get_input_embeddings()) is SeenEmbedding
        assert torch.equal(_logits(model, batch), logits)
        torch.testing.assert_close(model.state_dict(), states, rtol=0, atol=0)


# --- which tokens occur ---------------------------------------------------------------------------------------


def _features(rows: int = 60) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    # Lists of every length from 0 on; late rows hold tokens that early ones do not.
    tokens = [(torch.randint(9, (row % 7,), generator=generator) + row).tolist() for row in range(rows)]
    return Dataset.from_dict({"input_ids": tokens, "label": list(range(rows))})


def _set(features: Dataset) -> list[int]:
    return sorted({token for tokens in features.with_format(None)["input_ids"] for token in tokens})


def test_seen_tokens_are_the_set_of_all_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    features = _features()
    shown = {
        "all": features,
        "selected": features.select([3, 59, 20, 20]),
        "a range": features.select(range(10, 20)),
        "shuffled": features.shuffle(seed=0),
        "a part of shuffled": features.shuffle(seed=0).select(range(7)),
        "a shard": features.shard(4, 1),
        "as tensors": features.with_format("torch", columns=["label"]),
        "one row": features.select([1]),
        "a row without tokens": features.select([7]),
        "nothing": features.select([]),
    }
    for batch in (10_000, 4):
        monkeypatch.setattr("ted_distill.fast.embeddings._ROWS", batch)
        for name, rows in shown.items():
            tokens = seen_tokens(rows)
            assert tokens.dtype == torch.int64
            assert tokens.tolist() == _set(rows), name
    assert len({tuple(_set(rows)) for rows in shown.values()}) > 6


def test_features_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="input_ids"):
        seen_tokens(_features().rename_column("input_ids", "tokens"))


@pytest.mark.parametrize("kind", ["int32", "int64", "uint16", "large", "fixed"])
def test_seen_tokens_of_every_kind_of_list(kind: str) -> None:
    column = {"large": LargeList(Value("int32")), "fixed": List(Value("int32"), length=2)}.get(kind)
    features = Features({"input_ids": column or List(Value(kind))})
    rows = Dataset.from_dict({"input_ids": [[3, 1], [7, 3], [4, 9]]}, features=features)
    assert seen_tokens(rows).tolist() == [1, 3, 4, 7, 9]
    assert seen_tokens(rows.select([2, 0])).tolist() == [1, 3, 4, 9]
    assert seen_tokens(rows.select([1])).tolist() == [3, 7]
    assert seen_tokens(rows.select(range(1, 3))).tolist() == [3, 4, 7, 9]
