"""A model of some of another's blocks: which ones, and the copy that keeps them."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError
from ..method.shapes import num_blocks


def resolve_blocks(total: int, blocks: list[int] | None, num_blocks: int | None) -> list[int]:
    """The blocks a student keeps: `blocks`, or `num_blocks` evenly spaced ones that end with the last, or all.

    Raises:
        InputError: both are given, or blocks that a model of `total` blocks does not have.
    """
    if blocks is not None and num_blocks is not None:
        raise InputError("layers: expected either layers or num_layers, got both; give one of them")
    if blocks is not None:
        check_blocks(blocks, total)
        return blocks
    if num_blocks is None:
        return list(range(1, total + 1))
    if not 1 <= num_blocks <= total:
        raise InputError(f"num_layers: expected 1 to {total} (the teacher's blocks), got {num_blocks}")
    return [total * number // num_blocks for number in range(1, num_blocks + 1)]


def check_blocks(blocks: list[int], total: int) -> None:
    """Refuse blocks of a student that a model of `total` blocks does not have.

    Raises:
        InputError: they are not ascending numbers from 1 to `total`.
    """
    if not blocks or any(not 1 <= block <= total for block in blocks) or sorted(set(blocks)) != list(blocks):
        raise InputError(f"student_layers: expected ascending numbers from 1 to {total}, got {blocks}")


def student_from_teacher(model: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """A copy of `model` that keeps only `blocks` (1-based, in order), with its embeddings and head.

    A model that runs one block again and again (ALBERT) runs it as often as there are `blocks`.

    Raises:
        InputError: a block the model does not have, or a model whose blocks cannot be found.
    """
    total = num_blocks(model.config)
    check_blocks(blocks, total)
    student = copy.deepcopy(model)
    if getattr(student.config, "num_hidden_groups", None) == 1:
        student.config.num_hidden_layers = len(blocks)
        return _rebuilt(student, blocks)
    for module in student.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == total:
                setattr(module, name, nn.ModuleList([child[block - 1] for block in blocks]))
                student.config.num_hidden_layers = len(blocks)
                if getattr(student.config, "layer_types", None):
                    student.config.layer_types = [student.config.layer_types[block - 1] for block in blocks]
                return _rebuilt(student, blocks)
    raise InputError(
        f"student_layers: expected a model with a list of {total} blocks, got {type(model).__name__}, which has none; "
        "give a student"
    )


def _rebuilt(student: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """The same weights in a model made from the config, as a reload makes it: blocks may depend on their position."""
    rebuilt = type(student)(student.config).to(student.dtype).train(student.training)
    try:
        rebuilt.load_state_dict(student.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"student_layers: expected blocks that make a {type(student).__name__}, got {blocks}: in this family the "
            f"weights of a block depend on its position ({reason}); keep block 1, the only one of its kind, or give a "
            "student"
        ) from error
    rebuilt.tie_weights()
    if student.can_generate():
        rebuilt.generation_config = student.generation_config
    return rebuilt
