"""Narrower students that keep what matters: what is chosen, how layers are fitted, in every family that can be cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import ModelOutput

from ted_distill import InputError
from ted_distill.method.filters import Batch, hidden_states_of
from ted_distill.models.blocks import student_from_teacher
from ted_distill.models.narrowing.important import TaskRows, choose, important_student, told_by
from ted_distill.models.narrowing.narrow import block_names, narrow_model
from ted_distill.models.narrowing.refit import refit, ridge_change
from ted_distill.models.narrowing.wiring import WIRINGS
from tiny import DECODERS, FAMILIES, tiny_config, usual_first

ALL = [*FAMILIES, *DECODERS]


def teacher(family: str, blocks: int = 4) -> PreTrainedModel:
    """A classifier of 16 coordinates and 2 heads."""
    torch.manual_seed(0)
    shared = {"num_key_value_heads": 2} if family in ("llama", "qwen2", "qwen3") else {}
    model = AutoModelForSequenceClassification.from_config(tiny_config(family, blocks, 16, **shared)).eval()
    with torch.no_grad():  # as they come, the models say nearly the same for every text
        for weight in model.parameters():
            weight.mul_(5) if weight.dim() == 2 else weight.add_(0.2 * torch.randn_like(weight))
    return model


def run(model: PreTrainedModel, batch: Batch) -> ModelOutput:
    return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True)


def loss(outputs: ModelOutput, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(outputs.logits, batch["labels"])


def rows(number: int = 64, seed: int = 1, with_loss: bool = True) -> TaskRows:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 40, (number, 9), generator=generator)
    mask = torch.ones_like(ids)
    ids[::2, 6:] = mask[::2, 6:] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": ids[:, 1] % 2}
    batches = [{name: tensor[start : start + 8] for name, tensor in batch.items()} for start in range(0, number, 8)]
    return TaskRows(batches, batch, run, loss if with_loss else None)


def logits(model: PreTrainedModel, number: int = 32) -> Tensor:
    with torch.no_grad():
        return run(model, rows(number, seed=2).together).logits


# --- what is kept ---------------------------------------------------------------------------------------------


def test_the_families_that_can_be_narrowed_are_all_tested() -> None:
    assert {*ALL, "mistral"} == {*WIRINGS}


@pytest.mark.parametrize("with_loss", [True, False])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "modernbert"])
def test_heads_and_neurons_that_add_nothing_are_those_that_go(family: str, with_loss: bool) -> None:
    model = teacher(family, 2)
    wiring, names = WIRINGS[family], block_names(model)
    silent = torch.tensor([0, 3, 4, 7, 8, 11, 12, 15])
    with torch.no_grad():
        for name in names:
            for end, gone in ((wiring.after_heads, slice(0, 8)), (wiring.after_neurons, silent)):
                weight = model.get_submodule(f"{name}.{end}").weight
                (weight.T if not wiring.transposed else weight)[gone] = 0
    kept = choose(model, dict(zip(names, names, strict=True)), 8, rows(with_loss=with_loss), [1, 2])
    for name in names:
        assert kept.heads[name].tolist() == [1]
        assert not {*kept.neurons[name].tolist()} & {*silent.tolist()}
        assert (
            len(kept.neurons[name])
            == narrow_model(model, 8)
            .get_submodule(name)
            .get_submodule(wiring.after_neurons)
            .weight.shape[0 if wiring.transposed else 1]
        )


def test_the_head_is_kept_whose_gate_moves_the_loss_more() -> None:
    """Michel et al. define importance by a gate of 1 on each head: the gradient's size, row by row."""
    model = teacher("bert", 2)
    gates = torch.ones(2, requires_grad=True)
    module = model.get_submodule("bert.encoder.layer.1.attention.output.dense")
    handle = module.register_forward_pre_hook(lambda _, given: (given[0] * gates.repeat_interleave(8),))
    moved = torch.zeros(2)
    data = rows()
    for row in range(64):
        one = {name: tensor[row : row + 1] for name, tensor in data.together.items()}
        (gradient,) = torch.autograd.grad(loss(run(model, one), one), gates)
        moved += gradient.abs()
    handle.remove()
    names = block_names(model)
    kept = choose(model, dict(zip(names, names, strict=True)), 8, data, [1, 2])
    assert kept.heads[names[1]].tolist() == [int(moved.argmax())]
    assert moved.min() < 0.95 * moved.max()


def test_the_coordinates_kept_are_those_that_leave_least_each_time() -> None:
    states = np.random.default_rng(0).normal(size=(200, 5)) @ np.random.default_rng(1).normal(size=(5, 9))
    covariance = np.cov(states.T)
    chosen: list[int] = []
    for _ in range(5):
        inside = covariance[np.ix_(chosen, chosen)]
        told = covariance[:, chosen] @ np.linalg.pinv(inside) @ covariance[chosen] if chosen else 0
        rest = np.diag(covariance - told).copy()
        rest[chosen] = -1
        chosen.append(int(rest.argmax()))
    assert told_by(torch.tensor(covariance), 5).tolist() == sorted(chosen)
    assert told_by(torch.tensor(covariance), 9).tolist() == list(range(9))  # the rest is 0 after five


# --- how layers are fitted ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shifts", [True, False])
def test_a_fitted_layer_is_the_solution_of_the_extended_least_squares_problem(shifts: bool) -> None:
    draw = np.random.default_rng(0)
    inputs, missing = draw.normal(1, 2, size=(50, 6)), draw.normal(size=(50, 3))
    centred = inputs - inputs.mean(0) * shifts
    penalty = np.sqrt(0.3 * (centred**2).mean() * 50)
    target = np.vstack([missing - missing.mean(0) * shifts, np.zeros((6, 3))])
    expected = np.linalg.lstsq(np.vstack([centred, penalty * np.eye(6)]), target, rcond=None)[0].T
    change, shift = ridge_change(torch.tensor(inputs), torch.tensor(missing), shifts, 0.3)
    np.testing.assert_allclose(change, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shift, (missing.mean(0) - expected @ inputs.mean(0)) * shifts, atol=1e-12)


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama", "qwen3"])
def test_what_is_said_twice_is_cut_without_a_loss(family: str) -> None:
    """Coordinates j and j + 8 are equal throughout; the first head and half of the neurons write nothing."""
    model = teacher(family, 2)
    wiring, names = WIRINGS[family], block_names(model)
    with torch.no_grad():
        for name, module in model.named_modules():
            role, weight = wiring.place(name)[1], getattr(module, "weight", None)
            if isinstance(module, nn.Embedding):
                weight[:, 8:] = weight[:, :8]
            if role in ("after_heads", "after_neurons"):
                of_outputs = weight.T if wiring.transposed else weight
                of_outputs[8:] = of_outputs[:8]
                of_outputs[:, : 8 if role == "after_heads" else 12] = 0
            norm = "Norm" in type(module).__name__ and len(weight) == 16
            if norm:
                weight[8:] = weight[:8]
            if (norm or role in ("after_heads", "after_neurons")) and getattr(module, "bias", None) is not None:
                module.bias[8:] = module.bias[:8]
        if hasattr(model, "classifier"):  # of the layer that it reads, only half is kept
            model.classifier.weight[:, 8:] = 0
    of_teacher = dict(zip(names, names, strict=True))
    data = rows(400)
    kept = choose(model, of_teacher, 8, data, [1, 2])
    # One of each two; after a norm that centres them, seven tell the eighth.
    assert len({*(kept.stream % 8).tolist()}) >= 7
    kept = replace(kept, stream=torch.arange(8))
    student = narrow_model(model, 8, "important", kept=kept)
    before = logits(student)
    refit(student, model, kept, of_teacher, data.together, run, ridge=1e-9)
    torch.testing.assert_close(logits(student), logits(model), rtol=2e-3, atol=2e-3)
    assert (before - logits(model)).abs().max() > 0.05


@pytest.mark.parametrize("family", usual_first(ALL))
def test_a_student_of_all_blocks_and_the_same_width_is_its_teacher(family: str) -> None:
    model = teacher(family)
    student = important_student(model, [1, 2, 3, 4], 16, rows())
    for name, weight in student.state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name], rtol=1e-4, atol=2e-4, msg=name)


@pytest.mark.parametrize("family", usual_first(ALL))
def test_every_family_narrows_and_its_student_reloads_with_the_same_logits(family: str, tmp_path: Path) -> None:
    model = teacher(family)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    student = important_student(model, [1, 3], 8, rows())
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (2, 8)
    student.save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    torch.testing.assert_close(logits(again.eval()), logits(student.eval()), rtol=0, atol=0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("family", usual_first(family for family in ALL if family != "albert"))
def test_its_states_on_other_rows_are_nearer_than_before_it_was_fitted(family: str) -> None:
    model = teacher(family)
    data, other = rows(200), rows(64, seed=2).together
    names = block_names(model)
    wide = student_from_teacher(model, [1, 3])
    of_teacher = dict(zip(block_names(wide), (names[0], names[2]), strict=True))
    kept = choose(model, of_teacher, 8, data, [1, 3])
    student = narrow_model(wide, 8, "important", kept=kept)

    def error() -> float:
        real = other["attention_mask"] != 0
        with torch.no_grad():
            own, theirs = (hidden_states_of(run(each, other)) for each in (student, model))
        return float((own[1][real] - theirs[1][real][:, kept.stream]).square().mean())

    before = error()
    refit(student, model, kept, of_teacher, data.together, run)
    assert error() < 0.9 * before


@pytest.mark.parametrize("family", usual_first(ALL))
def test_the_fitted_weights_are_those_that_later_layers_were_fitted_behind(family: str) -> None:
    model, data, seen = teacher(family), rows(), []

    def watched(which: PreTrainedModel, batch: Batch) -> ModelOutput:
        seen.append(run(which, batch))
        return seen[-1]

    names = block_names(model)
    of_teacher = dict(zip(names, names, strict=True))
    kept = choose(model, of_teacher, 8, data, [1, 2, 3, 4])
    student = narrow_model(model, 8, "important", kept=kept)
    refit(student, model, kept, of_teacher, data.together, watched)
    with torch.no_grad():
        torch.testing.assert_close(run(student, data.together).logits, seen[-1].logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("blocks", [[1], [4]])
def test_a_student_of_one_block_is_fitted_too(blocks: list[int]) -> None:
    """ALBERT's blocks are one, under one name."""
    for family in ("albert", "bert"):
        student = important_student(teacher(family), blocks, 8, rows())
        assert student.config.num_hidden_layers == 1
        assert logits(student.eval()).isfinite().all()


def test_the_same_rows_give_the_same_weights_and_others_do_not() -> None:
    first, again, other = (
        important_student(teacher("bert"), [2, 4], 8, data).state_dict() for data in (rows(), rows(), rows(seed=5))
    )
    assert all(torch.equal(weight, again[name]) for name, weight in first.items())
    assert not all(torch.equal(weight, other[name]) for name, weight in first.items())


def test_layers_that_run_several_times_are_left_as_they_were_cut() -> None:
    for family, left in (("albert", "ffn"), ("deberta-v2", "query_proj")):
        model = teacher(family)
        names = block_names(model)
        of_teacher = dict(zip(names, names, strict=True))
        kept = choose(model, of_teacher, 8, rows(), [1, 2, 3, 4])
        student = narrow_model(model, 8, "important", kept=kept)
        fitted = refit(student, model, kept, of_teacher, rows().together, run)
        assert not [name for name in fitted if left in name]
        assert fitted


def test_a_family_that_is_not_known_is_refused() -> None:
    model = teacher("bert")
    model.config.model_type = "fnet"
    with pytest.raises(InputError, match=r"narrow: expected a family whose layout of weights is known, got fnet; use"):
        important_student(model, [1], 8, rows())
