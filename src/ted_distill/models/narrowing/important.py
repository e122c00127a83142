"""A narrower student that starts well: it keeps what matters on rows of the task, and its layers are fitted to it.

Heads and neurons are kept by how much the task's loss would change without them, to first order: |activation *
gradient|, summed over tokens inside the bars and over rows outside (Michel et al. 2019, "Are sixteen heads really
better than one?", eq. 2; Molchanov et al. 2019, "Importance estimation for neural network pruning", eq. 8).

A norm after each addition ties the stream to its coordinates, so that it cannot be rotated to principal components. It
keeps the coordinates from which all others can best be told: a Cholesky decomposition of their covariance that always
takes next the coordinate whose rest is largest. What the dropped coordinates said is then told from the kept ones by
`refit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ...identity import Identity
from ...method.closed_form import TokenSums
from ...method.filters import Batch, hidden_states_of
from ...method.shapes import num_blocks
from ...progress import watched
from ..blocks import student_from_teacher
from .narrow import block_names, check_narrow, inner_width, key_groups, narrow_config, narrow_model
from .refit import refit
from .wiring import WIRINGS, Kept


@dataclass(frozen=True)
class TaskRows:
    """Rows of the task, and how a model reads them.

    Attributes:
        batches: of a few rows each; importance is summed over all of them.
        together: one batch, of as many of these rows as can be held at once; layers are fitted on it.
        run: a model's outputs, with hidden states, for a batch.
        loss: the task's loss of such outputs; None for a model without a head for the task. Importance is then how much
            a head or a neuron adds to the stream.
        identity: everything that the rows follow from.
    """

    batches: Sequence[Batch]
    together: Batch
    run: Callable[[PreTrainedModel, Batch], ModelOutput]
    loss: Callable[[ModelOutput, Batch], Tensor] | None = None
    identity: Identity = field(default_factory=dict)


def important_student(
    teacher: PreTrainedModel, blocks: list[int], hidden_size: int, rows: TaskRows, seed: int = 42
) -> PreTrainedModel:
    """A student of these blocks of a teacher, of this width, that keeps what matters on these rows.

    Its layers are fitted to the teacher's states after the same blocks, so that they also stand in for the blocks that
    were left out. A student of all blocks and of the teacher's own width is the teacher.

    Args:
        blocks: 1-based, in order.
        seed: it draws nothing that is kept; for the random generator's state alone.

    Raises:
        InputError: a width or blocks that do not fit, or a family whose layout of weights is not known.
    """
    check_narrow(teacher.config.model_type, "important")
    narrow_config(teacher.config, hidden_size)
    training = teacher.training
    teacher.eval()
    student = student_from_teacher(teacher, blocks)
    of_teacher = dict(_origins(teacher, student, blocks))
    kept = choose(teacher, of_teacher, hidden_size, rows, blocks)
    student = narrow_model(student, hidden_size, "important", seed, kept).to(teacher.device)
    refit(student, teacher, kept, of_teacher, rows.together, rows.run)
    teacher.train(training)
    return student.train(training)


def _origins(teacher: PreTrainedModel, student: PreTrainedModel, blocks: list[int]) -> Iterator[tuple[str, str]]:
    """(name of the student's block, name of the teacher's block that it was copied from)."""
    theirs, own = block_names(teacher), block_names(student)
    # A model that runs one block again and again has a single name.
    yield from zip(own, theirs if len(theirs) == 1 else [theirs[block - 1] for block in blocks], strict=True)


def choose(
    teacher: PreTrainedModel, of_teacher: dict[str, str], hidden_size: int, rows: TaskRows, blocks: Sequence[int]
) -> Kept:
    """What a student of this width keeps.

    Args:
        of_teacher: the student's block -> the teacher's block.
        blocks: the same as numbers, 1-based.
    """
    groups, narrow = key_groups(teacher.config), narrow_config(teacher.config, hidden_size)
    found = _measure(teacher, list(of_teacher.values()), rows, blocks)
    return Kept(
        told_by(found.covariance, hidden_size),
        {own: _largest(found.heads[theirs], key_groups(narrow)) for own, theirs in of_teacher.items()},
        {own: _largest(found.neurons[theirs], inner_width(narrow)) for own, theirs in of_teacher.items()},
        groups,
    )


def told_by(covariance: Tensor, number: int) -> Tensor:
    """(number,) coordinates, ascending, that leave little of the others: those of a pivoted Cholesky decomposition.

    Args:
        covariance: (D, D).
    """
    rest = covariance.double().clone()
    chosen: list[int] = []
    left = torch.ones(len(rest), dtype=torch.bool, device=rest.device)
    for _ in range(number):
        pick = int(rest.diagonal().masked_fill(~left, -torch.inf).argmax())
        chosen.append(pick)
        left[pick] = False
        if rest[pick, pick] > 0:
            rest -= torch.outer(rest[:, pick], rest[pick]) / rest[pick, pick]
    return torch.tensor(sorted(chosen))


def _largest(importance: Tensor, number: int) -> Tensor:
    """Indices of the largest, ascending; of equal ones, the first."""
    return importance.argsort(descending=True, stable=True)[:number].sort().values.cpu()


# --- importance -----------------------------------------------------------------------------------------------------


@dataclass
class _Importance:
    heads: dict[str, Tensor]
    neurons: dict[str, Tensor]
    covariance: Tensor


def _measure(teacher: PreTrainedModel, names: list[str], rows: TaskRows, blocks: Sequence[int]) -> _Importance:
    """Importance of heads (groups,) and neurons of each named block, and the covariance (D, D) of the states."""
    wiring, groups = WIRINGS[teacher.config.model_type], key_groups(teacher.config)
    writers = {
        role: {block: teacher.get_submodule(f"{block}.{end}") for block in names}
        for role, end in (("heads", wiring.after_heads), ("neurons", wiring.after_neurons))
    }
    importance: dict[str, dict[str, Tensor]] = {"heads": {}, "neurons": {}}
    positions = sorted({0, *blocks}) if len(names) == len(blocks) else range(num_blocks(teacher.config) + 1)
    sums = [TokenSums() for _ in positions]
    for batch in watched(rows.batches, "measuring what matters", len(rows.batches), "batches"):
        real = batch["attention_mask"] != 0
        with torch.enable_grad(), _inputs(list({*writers["heads"].values(), *writers["neurons"].values()})) as inputs:
            outputs = rows.run(teacher, batch)
            gradients = _gradients(rows, outputs, batch, [state for states in inputs.values() for state in states])
        for of_block, position in zip(sums, positions, strict=True):
            of_block.add(hidden_states_of(outputs)[position].detach()[real])
        for role, of_blocks in writers.items():
            for block, module in of_blocks.items():
                scale = None if rows.loss else _squared_columns(module, wiring.transposed)
                for state in inputs[module]:
                    found = _taylor(state, gradients[state]) if scale is None else _added(state, scale, real)
                    found = found.unflatten(-1, (groups, -1)).sum(-1) if role == "heads" else found
                    found = found.abs().sum(0)
                    importance[role][block] = importance[role].get(block, torch.zeros_like(found)) + found
    # Each block in units of its mean variance: in some families states grow from block to block.
    covariances = [of_block.covariance for of_block in sums]
    total = sum(covariance / covariance.diagonal().mean().clamp(min=1e-30) for covariance in covariances)
    return _Importance(importance["heads"], importance["neurons"], torch.as_tensor(total))


def _taylor(state: Tensor, gradient: Tensor) -> Tensor:
    """(B, E) activation * gradient, summed over tokens (B, T, E)."""
    return (state * gradient).detach().double().sum(1)


def _added(state: Tensor, squared_columns: Tensor, real: Tensor) -> Tensor:
    """(B, E) energy that each of E inputs of a layer adds to its outputs, over real tokens."""
    return (state.detach().double().square() * real[..., None]).sum(1) * squared_columns


def _squared_columns(module: nn.Module, transposed: bool) -> Tensor:
    weight: Any = module.weight
    return weight.detach().double().square().sum(1 if transposed else 0)


def _gradients(rows: TaskRows, outputs: ModelOutput, batch: Batch, states: list[Tensor]) -> dict[Tensor, Tensor]:
    """The loss's gradient for each of these states; empty without a loss."""
    if rows.loss is None:
        return {}
    # A sum over rows instead of their mean, so that batches of any size count alike.
    loss = rows.loss(outputs, batch) * len(batch["input_ids"])
    found = torch.autograd.grad(loss, states, allow_unused=True)
    return {
        state: torch.zeros_like(state) if gradient is None else gradient
        for state, gradient in zip(states, found, strict=True)
    }


@contextmanager
def _inputs(modules: Sequence[nn.Module]) -> Iterator[dict[nn.Module, list[Tensor]]]:
    """What these modules are called with, in order of the calls."""
    found: dict[nn.Module, list[Tensor]] = {module: [] for module in modules}
    handles = [
        module.register_forward_pre_hook(lambda module, given: found[module].append(given[0])) for module in modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
