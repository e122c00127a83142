"""Guards against upstream: what `StageTrainer` and the filters take for granted about transformers.

A release of transformers that renames, moves or reorders any of it fails here, and not as a training that quietly
computes something else.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from ted_distill import DistillTrainer, FinetuneTrainer, LearnFiltersTrainer
from ted_distill.method.filters import FilteredModel, Filters
from ted_distill.training.saving_trainer import SavingTrainer
from ted_distill.training.trainer import StageTrainer
from ted_distill.training.updates import UpdateTrainer
from tiny import DECODERS, FAMILIES, tiny_config

# --- methods of the Trainer that ours overrides ---------------------------------------------------------------

CALLERS: dict[str, str] = {
    "train": "StageTrainer.fit",
    "_init_training_state": "Trainer._inner_training_loop",
    "_update_auto_batch_size": "Trainer._inner_training_loop",
    "get_batch_samples": "Trainer._run_epoch",
    "_get_num_items_in_batch": "Trainer.get_batch_samples",
    "training_step": "Trainer._run_epoch",
    "compute_loss": "Trainer.training_step",
    "_maybe_log_save_evaluate": "Trainer._run_epoch",
    "get_train_dataloader": "Trainer._inner_training_loop",
    "log": "Trainer._maybe_log_save_evaluate",
    "evaluate": "Trainer._evaluate",
    "_determine_best_metric": "Trainer._maybe_log_save_evaluate",
    "_save_checkpoint": "Trainer._maybe_log_save_evaluate",
    "_get_output_dir": "Trainer._save_checkpoint",
    "_save": "Trainer.save_model",
    "_load_from_checkpoint": "Trainer.train",
    "_load_optimizer_and_scheduler": "Trainer._prepare_for_training",
    "_load_scaler": "Trainer._prepare_for_training",
    "_load_rng_state": "Trainer._run_epoch",
    "_load_best_model": "Trainer._finalize_training",
}
"""Overridden method -> the method that calls it, in every version of transformers that pyproject.toml allows."""


def _overrides() -> dict[str, Callable[..., Any]]:
    """Attributes that our trainers define and the Trainer has too; a new one is found by itself."""
    trainers = (UpdateTrainer, SavingTrainer, StageTrainer, FinetuneTrainer, LearnFiltersTrainer, DistillTrainer)
    return {
        name: value
        for trainer in trainers
        for name, value in vars(trainer).items()
        if hasattr(Trainer, name)
        and not name.startswith("__")
        # Not what another test has put there.
        and getattr(value, "__module__", trainer.__module__) == trainer.__module__
    }


def _is_used(name: str, caller: str) -> bool:
    """Whether the method `caller` has an expression that ends in `.name`; comments and docstrings do not count."""
    owner, method = caller.split(".")
    function = getattr({"Trainer": Trainer, "StageTrainer": StageTrainer}[owner], method)
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
    return any(isinstance(node, ast.Attribute) and node.attr == name for node in nodes)


def _refused_call(ours: Callable[..., Any], theirs: Callable[..., Any]) -> str | None:
    """A way of calling their method that ours would refuse, or would understand otherwise; None if there is none."""
    signature = inspect.signature(ours)
    parameters = list(inspect.signature(theirs).parameters.values())
    named = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    only_by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    optional = [p.name for p in parameters if p.default is not p.empty]
    for names in (named, [name for name in named if name not in optional]):
        for positional in range(1, len(names) + 1):
            keywords = {name: name for name in (*names[positional:], *only_by_name)}
            call = f"{names[:positional]} by position, {sorted(keywords)} by name"
            try:
                bound = signature.bind(*names[:positional], **keywords).arguments
            except TypeError as error:
                return f"{call}: {error}"
            if any(isinstance(value, str) and value != name for name, value in bound.items()):
                return f"{call}: taken for {bound}"
    for kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        if any(p.kind is kind for p in parameters) and all(p.kind is not kind for p in signature.parameters.values()):
            return f"{kind.description} arguments"
    return None


def test_every_method_of_the_trainer_that_is_overridden_has_a_known_caller() -> None:
    unknown = sorted(_overrides().keys() - CALLERS.keys())
    assert not unknown, (
        f"expected an entry in CALLERS for every overridden method of transformers.Trainer, got none for {unknown}: "
        "say where it is called; or, if it is no override, transformers has a method of this name now: rename ours"
    )


@pytest.mark.parametrize("name", CALLERS)
def test_the_trainer_of_transformers_still_has_and_calls_the_method(name: str) -> None:
    assert hasattr(Trainer, name), f"expected transformers.Trainer.{name}, which StageTrainer overrides, got none"
    assert name in _overrides(), f"expected StageTrainer to override {name}, got no override: drop it from CALLERS"
    caller = CALLERS[name]
    assert _is_used(name, caller), f"expected {caller} to call {name}, got a version of transformers that does not"


@pytest.mark.parametrize("name", CALLERS)
def test_the_method_can_be_called_as_that_of_transformers(name: str) -> None:
    refused = _refused_call(_overrides()[name], getattr(Trainer, name))
    assert refused is None, f"{name}: expected to take every call that transformers.Trainer.{name} takes, got {refused}"


def test_the_comparison_of_signatures_finds_what_does_not_fit() -> None:
    def theirs(self: Any, first: int, second: int = 0, *, third: int = 0) -> None: ...
    def takes_all(self: Any, *args: Any, **kwargs: Any) -> None: ...
    def takes_more(self: Any, first: int, second: int = 0, fourth: int = 0, *, third: int = 0) -> None: ...
    def lacks_second(self: Any, first: int, *, third: int = 0) -> None: ...
    def renames_second(self: Any, first: int, other: int = 0, *, third: int = 0) -> None: ...
    def turns_round(self: Any, second: int = 0, first: int = 0, *, third: int = 0) -> None: ...
    def needs_fourth(self: Any, first: int, second: int = 0, *, third: int = 0, fourth: int) -> None: ...

    assert _refused_call(theirs, theirs) is None
    assert _refused_call(takes_all, theirs) is None
    assert _refused_call(takes_more, theirs) is None
    for ours in (lacks_second, renames_second, turns_round, needs_fourth):
        assert _refused_call(ours, theirs), ours.__name__
    assert _refused_call(theirs, takes_all)


# --- what the Trainer does with our loss and our order of rows ------------------------------------------------


class _HalfOfTheWeight(Trainer):
    def compute_loss(self, model: nn.Module, inputs: Any, return_outputs: bool = False, **_: Any) -> Tensor:
        return model.weight.sum() / 2


@pytest.mark.parametrize("accepts", [True, False])
def test_a_loss_is_divided_by_the_accumulation_steps_unless_the_model_takes_counts(
    accepts: bool, tmp_path: Path
) -> None:
    model = nn.Linear(1, 1)
    trainer = _HalfOfTheWeight(model, TrainingArguments(str(tmp_path), use_cpu=True, gradient_accumulation_steps=4))
    trainer.model_accepts_loss_kwargs = accepts
    trainer.current_gradient_accumulation_steps = 4
    loss = trainer.training_step(model, {"input": torch.ones(1)}, num_items_in_batch=(1, 2))
    shares = 1 if accepts else 4
    assert loss == pytest.approx(model.weight.item() / 2 / shares)
    assert model.weight.grad.item() == pytest.approx(1 / 2 / shares)


def test_whether_a_loss_is_scaled_is_decided_by_what_the_model_takes() -> None:
    # Newer versions have this attribute, which decides instead where it is not None; StageTrainer does not set it.
    assert getattr(StageTrainer, "loss_is_scaled_for_ga", None) is None


def test_rows_of_like_length_are_drawn_from_the_generator_alone() -> None:
    lengths = torch.randint(1, 30, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = LengthGroupedSampler(4, lengths=lengths, generator=torch.Generator())
    orders = []
    for seed in (1, 2, 1):
        sampler.generator.manual_seed(seed)
        orders.append(list(sampler))
        torch.rand(1)
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(200))


def test_the_trainer_tells_the_sampler_its_epoch() -> None:
    assert _is_used("set_epoch", "Trainer._run_epoch")


# --- the token that classifies --------------------------------------------------------------------------------


def _tokens_that_classify(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[list[int]]:
    """For each row the tokens whose last hidden state the logits depend on."""
    outputs = model(**batch, output_hidden_states=True)
    (gradient,) = torch.autograd.grad(outputs.logits.sum(), outputs.hidden_states[-1])
    return [row.nonzero().flatten().tolist() for row in gradient.abs().sum(-1)]


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_classifiers_with_a_head_called_score_read_the_last_token_and_others_the_first(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(family, initializer_range=0.3)).eval()
    # Padding is token 0, and the second row ends in two of it.
    batch = {"input_ids": torch.randint(5, 40, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    for name in batch:
        batch[name][1, 5:] = 0
    assert hasattr(model, "score") == (family in DECODERS)
    tokens = [6, 4] if family in DECODERS else [0, 0]
    assert _tokens_that_classify(model, batch) == [[token] for token in tokens]
    # And these are the tokens that filters of one token see.
    filtered = FilteredModel(
        model, Filters.identity([2]), select_logits=lambda outputs: outputs.logits, filter_token="first"
    )
    with torch.no_grad():
        states = filtered(batch).states[0]
        last = model(**batch, output_hidden_states=True).hidden_states[2]
    assert torch.equal(states, torch.stack([last[row, [token]] for row, token in enumerate(tokens)]))
