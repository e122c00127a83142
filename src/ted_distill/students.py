"""Students made from teachers: a copy of a model that keeps only some of its blocks."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from .errors import InputError
from .models import ModelArguments, load_config, load_pretrained
from .output import read_json, whole_files

STUDENT_NAME = "student.json"
"""Beside a student made from a teacher: which of its blocks it was made of."""


def check_blocks(blocks: list[int], total: int) -> None:
    """Refuse blocks of a student that a model of `total` blocks does not have.

    Raises:
        InputError: not rising numbers from 1 to `total`.
    """
    if not blocks or any(not 1 <= block <= total for block in blocks) or sorted(set(blocks)) != list(blocks):
        raise InputError(f"student_layers: rising numbers from 1 to {total} were expected, {blocks} came")


def student_from_teacher(model: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """A copy of `model` that keeps only `blocks` (1-based, in order), with its embeddings and head.

    Raises:
        InputError: a block the model does not have, or a model whose blocks cannot be found (ALBERT shares one).
    """
    total = model.config.num_hidden_layers
    check_blocks(blocks, total)
    student = copy.deepcopy(model)
    for module in student.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == total:
                setattr(module, name, nn.ModuleList([child[block - 1] for block in blocks]))
                student.config.num_hidden_layers = len(blocks)
                if getattr(student.config, "layer_types", None):
                    student.config.layer_types = [student.config.layer_types[block - 1] for block in blocks]
                return _rebuilt(student, blocks)
    raise InputError(f"student_layers: no list of {total} blocks was found in {type(model).__name__}; give a student")


def _rebuilt(student: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """The same weights in a model made from the config, as every reload makes it: a block may depend on its place."""
    rebuilt = type(student)(student.config).to(student.dtype).train(student.training)
    try:
        rebuilt.load_state_dict(student.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"student_layers: blocks {blocks} make no {type(student).__name__}: in this family a block's weights "
            f"depend on its place ({reason}); keep block 1, the only one of its kind, or give a student"
        ) from error
    return rebuilt


def make_student(teacher: str | Path, blocks: list[int], folder: Path, arguments: ModelArguments | None = None) -> None:
    """Write a student made of blocks of a teacher, with the teacher's tokenizer, into `folder`."""
    hub = (arguments or ModelArguments()).hub
    config = load_config(str(teacher), arguments)
    # The class the checkpoint was saved from keeps its head, if it is one of transformers' own.
    saved_class = getattr(transformers, (config.architectures or [""])[0], AutoModel)
    model = load_pretrained(saved_class, str(teacher), hub, dtype=torch.float32)
    student = student_from_teacher(model, blocks)
    with whole_files(folder) as partial:
        student.save_pretrained(partial)
        load_pretrained(AutoTokenizer, str(teacher), hub).save_pretrained(partial)


def read_student_layers(folder: str | Path) -> list[int] | None:
    """The teacher's blocks a student was made of, 1-based; None for a model that was not, or is not known to be."""
    found = read_json(Path(folder) / STUDENT_NAME)
    return None if found is None else list(found["layers"])
