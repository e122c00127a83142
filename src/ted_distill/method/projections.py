"""The queries, keys and values of one block, recorded while a model runs.

No output of a Hugging Face model holds them, so they are taken from the modules that compute them. Shapes: B batch,
T tokens, D width; keys and values are narrower than queries where heads share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..errors import InputError, reason_of
from .shapes import num_blocks

_SEPARATE = (
    ("query", "key", "value"),
    ("query_proj", "key_proj", "value_proj"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
)
_SIDE_BY_SIDE = (("c_attn",), ("Wqkv",))
"""One module for all three, one after the other. Others mix them head by head (GPT-NeoX, DeBERTa v1)."""


@contextmanager
def recorded_projections(modules: list[nn.Module], call: int, recorded: list[Tensor]) -> Iterator[None]:
    """Within this context, one run of the model adds queries, keys and values (B, T, D) of a block to a list.

    Args:
        modules, call: as `projection_modules` gives them.
    """
    calls = [0] * len(modules)

    def keep(module: nn.Module, inputs: Any, output: Tensor, place: int) -> None:
        calls[place] += 1
        if calls[place] == call:
            recorded.extend([output] if len(modules) > 1 else output.chunk(3, dim=-1))

    with ExitStack() as stack:
        for place, module in enumerate(modules):
            stack.enter_context(module.register_forward_hook(partial(keep, place=place)))
        yield


def projection_modules(model: PreTrainedModel, block: int) -> tuple[list[nn.Module], int]:
    """The modules that compute a block's queries, keys and values, or the one for all; and the number of their call.

    DeBERTa's modules are called again for positions, after the tokens; the only block of ALBERT once for each block.

    Raises:
        InputError: the model has no such modules, or not one of a kind in each block.
    """
    total = num_blocks(model.config)
    for names in (*_SEPARATE, *_SIDE_BY_SIDE):
        owners = [
            module
            for module in model.base_model.modules()
            if all(_has_matrix(getattr(module, name, None)) for name in names)
        ]
        if len(owners) in (1, total) and (len(names) > 1 or _is_in_thirds(getattr(owners[0], names[0]))):
            owner, call = (owners[0], block) if len(owners) == 1 else (owners[block - 1], 1)
            return [getattr(owner, name) for name in names], call
    raise InputError(
        f"method: expected a model with queries, keys and values of its own in each block for attention relations, got "
        f"{type(model).__name__}, where they are not known; choose method kd, lwd or ted"
    )


def _has_matrix(module: Any) -> bool:
    """Whether a module multiplies by a matrix: a convolution, as in SqueezeBERT, has its tokens on another axis."""
    weight = getattr(module, "weight", None)
    return isinstance(module, nn.Module) and isinstance(weight, Tensor) and weight.dim() == 2


def projections_problem(model: PreTrainedModel, run: Callable[[], object], tokens: tuple[int, int]) -> str | None:
    """Why the queries, keys and values of the first block cannot be matched, although the model has them.

    Args:
        run: runs the model on a batch.
        tokens: rows and tokens of the batch.
    """
    try:
        modules, call = projection_modules(model, 1)
    except InputError:
        return None  # says so by itself
    recorded: list[Tensor] = []
    wanted = f"expected queries, keys and values of rows x tokens x width, {tokens[0]} x {tokens[1]} x D,"
    try:
        with recorded_projections(modules, call, recorded):
            run()
    except Exception as error:  # of what some families return in place of a tensor
        return f"{wanted} got an error ({reason_of(error)})"
    shapes = [tuple(getattr(vector, "shape", ())) for vector in recorded]
    wrong = [shape for shape in shapes if len(shape) != 3 or shape[:2] != tokens]
    if len(shapes) != 3 or wrong:
        return f"{wanted} got {wrong[0] if wrong else f'{len(shapes)} of them'}"
    return None


def _is_in_thirds(module: nn.Module) -> bool:
    """Whether a module makes queries, keys and values of one width; grouped ones would not be cut where they meet."""
    outputs, inputs = _shape(module)
    return outputs == 3 * inputs


def _shape(module: nn.Module) -> tuple[int, int]:
    """(outputs, inputs). A Conv1D, as in GPT-2, holds its matrix the other way round."""
    rows, columns = module.weight.shape  # type: ignore[misc]
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def projection_widths(model: PreTrainedModel, block: int) -> list[int]:
    """The widths of a block's queries, keys and values. Raises `InputError`: see `projection_modules`."""
    modules, _ = projection_modules(model, block)
    widths = [_shape(module)[0] for module in modules]
    return widths if len(widths) > 1 else [widths[0] // 3] * 3
