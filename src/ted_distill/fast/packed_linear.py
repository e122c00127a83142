"""Linear layers of frozen models on a CPU: weights laid out once for the matrix kernels of oneDNN.

`nn.Linear` brings its weights into the kernels' order in every call, and copies the bias into the output before the
product is added to it. For a model that is only read, neither is needed. The packed weights replace the others: a model
in this form can be run and unpacked again, but not saved or cast.

The operators are those that `torch.compile` generates calls to. They are not part of PyTorch's public interface:
`use_packed_linear` tries them first and changes nothing if they are missing or give different results.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

_ROWS = 256
"""Rows in a group, where rows are multiplied in groups: see `_pays_in_groups`."""


def use_packed_linear(model: nn.Module) -> int:
    """Pack the linear layers of a frozen bfloat16 model on a CPU.

    Returns:
        The number of modules changed: 0 for other models, and where PyTorch lacks the operators.
    """
    # Not weights that others use too: input embeddings tied to the output, or a filter head that shares the latter.
    weights = [weight for _, weight in model.named_parameters(remove_duplicate=False)]
    shared = {id(weight) for weight in weights if sum(weight is other for other in weights) > 1}
    output = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    layers = [
        module
        for module in model.modules()
        if type(module) is nn.Linear and _fits(module) and module is not output and id(module.weight) not in shared
    ]
    if not layers or not _works():
        return 0
    for layer in layers:
        layer.__class__ = PackedLinear
        layer._packed = _pack(layer.weight)
        layer.weight.data = layer.weight.new_empty(0)
    return len(layers)


def undo_packed_linear(model: nn.Module) -> int:
    """Undo `use_packed_linear`. Returns the number of modules changed back."""
    packed = [module for module in model.modules() if type(module) is PackedLinear]
    for layer in packed:
        layer.weight.data = layer._packed.to_dense()
        del layer._packed
        layer.__class__ = nn.Linear  # type: ignore[assignment]
    return len(packed)


class PackedLinear(nn.Linear):
    """The class of a linear layer while `use_packed_linear` is on."""

    _packed: Any

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., F), without a gradient."""
        rows = input.reshape(-1, input.shape[-1])
        groups = rows.split(_ROWS) if _pays_in_groups(len(rows), self.out_features) else [rows]
        products = [_product(group, self._packed, self.bias) for group in groups]
        return (torch.cat(products) if len(products) > 1 else products[0]).unflatten(0, input.shape[:-1])


def _pays_in_groups(rows: int, out_features: int) -> bool:
    """Whether oneDNN divides the work poorly by itself: 1,024 x 3,072 x 768 is 1.5 times faster in groups."""
    return 2 * _ROWS < rows < 8 * _ROWS and out_features <= 4 * _ROWS


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    return weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and not weight.requires_grad


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)


def _product(rows: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")


def _works() -> bool:
    generator = torch.Generator().manual_seed(0)
    rows, weight, bias = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((5, 32), (16, 32), (16,)))
    try:
        found = _product(rows, _pack(weight), bias)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.allclose(found.float(), F.linear(rows.float(), weight.float(), bias.float()), rtol=0.02, atol=0.05)
