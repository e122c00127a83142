"""Layers of a narrower student, fitted one after the other so that it has the kept part of its teacher's states.

In the order in which they run, each linear layer gets the weights of the smallest squared error: from what the student
has at its input by then to the kept part of the teacher's output, on the same tokens. Errors of earlier layers, dropped
coordinates and blocks left out are so made up for as far as a linear layer can. A layer that writes to the stream is
fitted to the whole stream after it, not to its own part; a norm has only its gain and shift fitted, one coordinate at a
time. The ridge pulls towards the weights there were, not towards 0: where rows say nothing, a weight stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import ModelOutput

from ...method.filters import Batch
from .wiring import WIRINGS, Kept, Wiring

RIDGE = 0.1
"""Strength of the ridge, in units of the mean variance of a layer's inputs."""

Visit = Callable[[str, Tensor, Tensor, Tensor | None], Tensor | None]
"""(name, input, output, what a layer that writes to the stream adds to) -> a new output, or None to keep it."""


def refit(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    kept: Kept,
    of_teacher: Mapping[str, str],
    batch: Batch,
    run: Callable[[PreTrainedModel, Batch], ModelOutput],
    ridge: float = RIDGE,
) -> list[str]:
    """Fit a student's layers to its teacher's, on the real tokens of one batch; both are in eval mode.

    Left as they are: embeddings, and what shares its weights with them; layers that run several times (ALBERT's blocks,
    what DeBERTa also applies to distances).

    Args:
        of_teacher: the student's block -> the teacher's block.
        ridge: see `ridge_change`.

    Returns:
        Names of the layers that were fitted, in order.
    """
    wiring = WIRINGS[student.config.model_type]
    names = _layers(student)
    real = batch["attention_mask"] != 0
    wanted: dict[str, list[Tensor | None]] = {name: [] for name in names}
    fitted: list[str] = []

    def record(name: str, _: Tensor, output: Tensor, stream: Tensor | None) -> None:
        found = _tokens(output if stream is None else stream + output, real)
        module = student.get_submodule(name)
        axis = int(isinstance(module, Conv1D))
        if found is not None and found.shape[-1] != _weight(module).shape[axis]:
            place = kept.along(wiring, f"{name}.weight", axis, found.shape[-1])
            found = found.index_select(-1, place.to(found.device))
        wanted[name].append(found)

    def fit(name: str, given: Tensor, output: Tensor, stream: Tensor | None) -> Tensor | None:
        inputs, outputs, targets = _tokens(given, real), _tokens(output, real), wanted.pop(name, [])
        if inputs is None or outputs is None or len(targets) != 1 or targets[0] is None:
            return None
        missing = targets[0] - outputs
        if stream is not None:
            missing = missing - stream[real]
        module = student.get_submodule(name)
        fitted.append(name)
        if _weight(module).dim() == 1:
            return _fit_norm(module, output, outputs, missing, ridge)
        return _fit_linear(module, given, inputs, missing, ridge)

    with torch.no_grad():
        with _walk(teacher, wiring, {_theirs(name, of_teacher): name for name in names}, of_teacher.values(), record):
            run(teacher, batch)
        with _walk(student, wiring, {name: name for name in names}, of_teacher, fit):
            run(student, batch)
    return fitted


@contextmanager
def _walk(
    model: PreTrainedModel, wiring: Wiring, names: Mapping[str, str], blocks: Iterable[str], visit: Visit
) -> Iterator[None]:
    """Visit each of a model's layers right after it has run.

    Args:
        names: the layer's name -> the name it is visited under.
        blocks: names of the blocks that these layers are in.
    """
    stream: list[Tensor] = []

    def at(module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        stream[:] = [given[0] if given else options["hidden_states"]]

    def after(name: str, writes: bool) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def hook(module: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor | None:
            new = visit(name, given[0], output, stream[0] if writes else None)
            if writes:
                stream[0] = stream[0] + (output if new is None else new)
            return new

        return hook

    handles = []
    for block in blocks:
        handles.append(model.get_submodule(block).register_forward_pre_hook(at, with_kwargs=True))
        if wiring.norm_last:  # what the second half of the block adds to has been normalised in between
            second = model.get_submodule(f"{block}.{wiring.neurons[0]}")
            handles.append(second.register_forward_pre_hook(at, with_kwargs=True))
    for own, name in names.items():
        writes = wiring.place(own)[1] in ("after_heads", "after_neurons")
        handles.append(model.get_submodule(own).register_forward_hook(after(name, writes)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _layers(model: PreTrainedModel) -> list[str]:
    """Names of linear layers and norms whose weights are theirs alone."""
    shared = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    vocabulary = model.get_output_embeddings()
    found = []
    for name, module in model.named_modules():
        known = isinstance(module, nn.Linear | Conv1D) or "Norm" in type(module).__name__
        if known and module is not vocabulary and id(getattr(module, "weight", None)) not in {*shared, id(None)}:
            found.append(name)
    return found


def _theirs(name: str, of_teacher: Mapping[str, str]) -> str:
    """The teacher's name of a student's layer."""
    for own, theirs in of_teacher.items():
        if name.startswith(f"{own}."):
            return theirs + name.removeprefix(own)
    return name


def _tokens(states: Tensor, real: Tensor) -> Tensor | None:
    """(N, D) real tokens of (B, T, D), or all rows of (B, D); None for anything else."""
    if states.dim() == 3 and states.shape[:2] == real.shape:
        return states[real]
    return states if states.dim() == 2 and len(states) == len(real) else None


def _weight(module: nn.Module) -> Tensor:
    weight: Any = module.weight
    return torch.as_tensor(weight)


# --- closed forms ---------------------------------------------------------------------------------------------------


def ridge_change(inputs: Tensor, missing: Tensor, shifts: bool, ridge: float) -> tuple[Tensor, Tensor]:
    """What to add to a linear layer's weight and bias so that it gives what is missing.

    Minimises `mean |dW x + db - m|^2 + ridge * v * |dW|^2`, where `v` is the mean square of the (centred) inputs.

    Args:
        inputs: (N, D) `x`.
        missing: (N, E) `m`, targets less outputs.
        shifts: whether the layer has a bias; without one, `db` is 0 and inputs are not centred.

    Returns:
        (E, D) `dW` and (E,) `db`.
    """
    inputs, missing = inputs.double(), missing.double()
    of_inputs, of_missing = inputs.mean(0) * shifts, missing.mean(0) * shifts
    centred = inputs - of_inputs
    squares = centred.T @ centred / len(inputs)
    penalty = (ridge * squares.diagonal().mean()).clamp(min=1e-30) * torch.eye(len(squares)).to(squares)
    change = torch.linalg.solve(squares + penalty, centred.T @ (missing - of_missing) / len(inputs)).T
    return change, of_missing - change @ of_inputs


def _fit_linear(module: nn.Module, given: Tensor, inputs: Tensor, missing: Tensor, ridge: float) -> Tensor:
    """Fit a linear layer; its output for what it was given."""
    bias: Any = getattr(module, "bias", None)
    change, shift = ridge_change(inputs, missing, bias is not None, ridge)
    _weight(module).add_((change.T if isinstance(module, Conv1D) else change).to(given.dtype))
    if bias is not None:
        bias.add_(shift.to(given.dtype))
    return torch.as_tensor(module.forward(given))


def _fit_norm(module: nn.Module, output: Tensor, outputs: Tensor, missing: Tensor, ridge: float) -> Tensor:
    """Fit a norm's gain and, if it has one, its shift; its new output.

    Its new output is `a * old + b` for each coordinate, whatever kind of norm it is.
    """
    bias: Any = getattr(module, "bias", None)
    outputs, missing = outputs.double(), missing.double()
    of_outputs, of_missing = outputs.mean(0) * (bias is not None), missing.mean(0) * (bias is not None)
    squares = (outputs - of_outputs).square().mean(0)
    change = ((outputs - of_outputs) * (missing - of_missing)).mean(0)
    change = change / (squares + (ridge * squares.mean()).clamp(min=1e-30))
    gain, shift = (1 + change).to(output.dtype), (of_missing - change * of_outputs).to(output.dtype)
    _weight(module).mul_(gain)
    if bias is not None:
        bias.mul_(gain).add_(shift)
    return output * gain + shift
