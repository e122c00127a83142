"""Switch fast disentangled attention for DeBERTa-v2 and v3 on and off: the same numbers in less time.

The computation itself is in `disentangled_attention`. That is imported only for a DeBERTa: it extends classes of
transformers, and changes to these must not affect other families.
"""

from __future__ import annotations

from torch import nn

from .dropout import swap_class

_MODELING = "transformers.models.deberta_v2.modeling_deberta_v2"


def holds_deberta(model: nn.Module) -> bool:
    """Whether `model` is or contains a module of DeBERTa-v2, found without importing that family.

    A model has these modules only if transformers has imported their classes already.
    """
    return any(parent.__module__ == _MODELING for kind in set(map(type, model.modules())) for parent in kind.__mro__)


def use_fast_attention(model: nn.Module, *, frozen: bool = False) -> int:
    """Make every disentangled self-attention inside `model` compute the same numbers faster.

    The model's outputs and gradients are the same up to rounding, dropout draws the same random numbers, and weights,
    config and saved checkpoints do not change. If a caller wants something that the fast path does not have (attention
    probabilities, separate query states), a module computes as before.

    Args:
        frozen: no weight will change until `undo_fast_attention`, so the projections of the table of relative
            positions are computed once and kept.

    Returns:
        The number of modules changed: 0 for families without disentangled attention (or already changed).
    """
    if not holds_deberta(model):
        return 0
    from .disentangled_attention import DisentangledSelfAttention, FastDisentangledSelfAttention

    changed = swap_class(model, DisentangledSelfAttention, FastDisentangledSelfAttention)
    for module in model.modules():
        if frozen and type(module) is FastDisentangledSelfAttention:
            module._projected = {}
    return changed


def undo_fast_attention(model: nn.Module) -> int:
    """Undo `use_fast_attention`: the modules are again as transformers made them.

    Returns:
        The number of modules changed back.
    """
    if not holds_deberta(model):
        return 0
    from .disentangled_attention import DisentangledSelfAttention, FastDisentangledSelfAttention

    for module in model.modules():
        if type(module) is FastDisentangledSelfAttention:
            module.__dict__.pop("_projected", None)
    return swap_class(model, FastDisentangledSelfAttention, DisentangledSelfAttention)
