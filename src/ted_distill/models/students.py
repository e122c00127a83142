"""Students made from teachers: a copy of a model that keeps only some of its blocks, and may be narrower."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from ..errors import InputError, collect, raise_if_any
from ..method.filter_files import fingerprint
from ..output import read_json, whole_files
from .load import ModelArguments, load_config, load_pretrained
from .narrow import WEIGHTS, narrow_config, narrow_model

STUDENT_NAME = "student.json"
"""Beside a student made from a teacher: which of its blocks it was made of."""


@dataclass
class StudentArguments:
    """What a student keeps of its teacher."""

    _argument_group_name: ClassVar[str] = "student"

    layers: str | None = field(default=None, metadata={"help": "the teacher's blocks it keeps, 1-based, as 2,4,6"})
    num_layers: int | None = field(default=None, metadata={"help": "or how many: evenly spaced, the last among them"})
    hidden_size: int | None = field(default=None, metadata={"help": "a narrower student, with fewer heads"})
    narrow: str = field(
        default="truncated", metadata={"help": "its weights: truncated (the leading part of the teacher's) or random"}
    )
    seed: int = field(default=42, metadata={"help": "of random weights"})
    model_revision: str = field(default="main", metadata={"help": "the teacher's branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that a Hub model brings"})


def resolve_layers(total: int, layers: list[int] | None, num_layers: int | None) -> list[int]:
    """The blocks a student keeps: those named, or so many evenly spaced ones that end with the last, or all.

    Raises:
        InputError: both are given, or blocks or a number that a model of `total` blocks does not have.
    """
    if layers is not None and num_layers is not None:
        raise InputError("layers: given beside num_layers; give one or the other")
    if layers is not None:
        check_blocks(layers, total)
        return layers
    if num_layers is None:
        return list(range(1, total + 1))
    if not 1 <= num_layers <= total:
        raise InputError(f"num_layers: 1 to {total} (the teacher's blocks) was expected, {num_layers} came")
    return [total * number // num_layers for number in range(1, num_layers + 1)]


def check_blocks(blocks: list[int], total: int) -> None:
    """Refuse blocks of a student that a model of `total` blocks does not have.

    Raises:
        InputError: not rising numbers from 1 to `total`.
    """
    if not blocks or any(not 1 <= block <= total for block in blocks) or sorted(set(blocks)) != list(blocks):
        raise InputError(f"student_layers: rising numbers from 1 to {total} were expected, {blocks} came")


def student_from_teacher(model: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """A copy of `model` that keeps only `blocks` (1-based, in order), with its embeddings and head.

    A model that runs one block again and again (ALBERT) does so as often as there are `blocks`.

    Raises:
        InputError: a block the model does not have, or a model whose blocks cannot be found.
    """
    total = model.config.num_hidden_layers
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
    rebuilt.tie_weights()
    if student.can_generate():
        rebuilt.generation_config = student.generation_config
    return rebuilt


def make_student(
    teacher: str | Path,
    blocks: list[int],
    folder: Path,
    arguments: ModelArguments | None = None,
    hidden_size: int | None = None,
    narrow: str = "truncated",
    seed: int = 42,
) -> tuple[int, int]:
    """Write a student made of blocks of a teacher, with the teacher's tokenizer and `student.json`, into `folder`.

    Args:
        hidden_size, narrow, seed: see `narrow.narrow_model`.

    Returns:
        Parameters of teacher and student.

    Raises:
        InputError: no such teacher, no such blocks, or a width that does not suit.
    """
    hub = (arguments or ModelArguments()).hub
    config = load_config(str(teacher), arguments)
    # The class the checkpoint was saved from keeps its head, if it is one of transformers' own.
    saved_class = getattr(transformers, (config.architectures or [""])[0], AutoModel)
    model = load_pretrained(saved_class, str(teacher), hub, dtype=torch.float32)
    student = student_from_teacher(model, blocks)
    description: dict[str, Any] = {
        "teacher": str(teacher), "teacher_weights": fingerprint(model), "layers": blocks
    }  # fmt: skip
    if hidden_size is not None and hidden_size != config.hidden_size:
        student = narrow_model(student, hidden_size, narrow, seed)
        description |= {"hidden_size": hidden_size, "weights": narrow}
    with whole_files(folder) as partial:
        student.save_pretrained(partial)
        load_pretrained(AutoTokenizer, str(teacher), hub).save_pretrained(partial)
        (partial / STUDENT_NAME).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return model.num_parameters(), student.num_parameters()


def student(teacher: str | Path, folder: str | Path, arguments: StudentArguments) -> str:
    """The command `ted student`: make a student and say what it is.

    Raises:
        InputError: with all problems, before anything is written; also if the folder holds something.
    """
    folder = Path(folder)
    model_arguments = ModelArguments(None, arguments.model_revision, arguments.trust_remote_code)
    problems: list[str] = []
    blocks: list[int] = []
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        problems.append(f"OUT: a new or empty folder was expected, {folder} holds something; give another one")
    if arguments.layers is None and arguments.num_layers is None and arguments.hidden_size is None:
        problems.append("layers: what the student keeps is missing; give --layers 2,4,6, --num_layers or --hidden_size")
    if arguments.narrow not in WEIGHTS:
        problems.append(f"narrow: one of {', '.join(WEIGHTS)} was expected, {arguments.narrow} came")
    with collect(problems):
        config = load_config(str(teacher), model_arguments)
        with collect(problems):
            blocks = resolve_layers(config.num_hidden_layers, _numbers(arguments.layers), arguments.num_layers)
        with collect(problems):
            narrow_config(config, arguments.hidden_size or config.hidden_size)
    raise_if_any(problems)
    width, own = config.hidden_size, arguments.hidden_size
    before, after = make_student(teacher, blocks, folder, model_arguments, own, arguments.narrow, arguments.seed)
    said = f"{config.num_hidden_layers} -> {len(blocks)} blocks ({', '.join(map(str, blocks))}), "
    said += f"{before / 1e6:,.1f} M -> {after / 1e6:,.1f} M parameters"
    if own and own != width:
        kinds = {"truncated": "the leading part of the teacher's", "random": "random"}
        said += f"\nwidth {width} -> {own}; weights: {kinds[arguments.narrow]}"
    return said


def _numbers(layers: str | None) -> list[int] | None:
    try:
        return None if layers is None else [int(number) for number in layers.split(",")]
    except ValueError as error:
        raise InputError(f"layers: numbers with commas between were expected, as 2,4,6, {layers} came") from error


def read_student_layers(folder: str | Path) -> list[int] | None:
    """The teacher's blocks a student was made of, 1-based; None for a model that was not, or is not known to be."""
    found = read_json(Path(folder) / STUDENT_NAME)
    return None if found is None else list(found["layers"])
