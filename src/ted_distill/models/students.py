"""Students made from teachers: a copy of a model that keeps only some of its blocks, and may be narrower."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import transformers
from torch import nn
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

from ..errors import InputError, collect, raise_if_any
from ..identity import backbone_fingerprint, config_content, fingerprint, head_fingerprint
from ..method.shapes import num_blocks, width
from ..output import (
    check_inputs,
    command,
    foreign_names,
    locked,
    publication,
    read_json,
    short_name,
    write_json,
)
from ..ranges import at_least, between, check_ranges, one_of
from .load import LoadedModel, ModelArguments, load_config, load_pretrained, read_ancestry
from .narrow import WEIGHTS, narrow_config, narrow_model

logger = logging.getLogger(__name__)

STUDENT_NAME = "student.json"
"""The file beside a student made from a teacher: it lists the teacher's blocks that the student was made of."""


@dataclass
class StudentArguments:
    """What a student keeps of its teacher."""

    _argument_group_name: ClassVar[str] = "student"

    layers: str | None = field(default=None, metadata={"help": "the teacher's blocks to keep, 1-based, such as 2,4,6"})
    num_layers: Annotated[int | None, at_least(1)] = field(
        default=None, metadata={"help": "or how many: evenly spaced, ending with the last"}
    )
    hidden_size: Annotated[int | None, at_least(1)] = field(
        default=None, metadata={"help": "width of a narrower student, with fewer heads"}
    )
    narrow: Annotated[str, one_of(WEIGHTS)] = field(
        default="truncated", metadata={"help": "its weights: truncated (the leading part of the teacher's) or random"}
    )
    seed: Annotated[int, between(0, 2**32 - 1)] = field(default=42, metadata={"help": "random seed of such weights"})
    model_revision: str = field(default="main", metadata={"help": "the teacher's branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that comes with a Hub model"})

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)


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
        InputError: no such teacher, no such blocks, or a width that does not fit.
    """
    hub = (arguments or ModelArguments()).hub
    model = load_as_saved(str(teacher), arguments)
    student = student_from_teacher(model, blocks)
    description = _description(teacher, model, blocks, hidden_size, narrow, seed)
    if "hidden_size" in description:
        student = narrow_model(student, description["hidden_size"], narrow, seed)
    description["made"] = _weights_fingerprint(student)
    student.save_pretrained(folder)
    load_pretrained(AutoTokenizer, str(teacher), hub).save_pretrained(folder)
    write_json(folder / STUDENT_NAME, description)
    return model.num_parameters(), student.num_parameters()


def _description(
    teacher: str | Path, model: PreTrainedModel, blocks: list[int], hidden_size: int | None, narrow: str, seed: int
) -> dict[str, Any]:
    """The content of `student.json`, apart from the student's own weights: everything they follow from."""
    found: dict[str, Any] = {
        "teacher": short_name(teacher),
        "teacher_backbone": backbone_fingerprint(model),
        "teacher_config": fingerprint(config_content(model.config)),
        "layers": blocks,
    }
    if hidden_size is not None and hidden_size != width(model.config):
        found |= {"hidden_size": hidden_size, "weights": narrow}
        found |= {"seed": seed} if narrow == "random" else {}
    return found


def _weights_fingerprint(model: PreTrainedModel) -> str:
    return fingerprint([backbone_fingerprint(model), head_fingerprint(model)])


def _is_made(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder holds the student of this description, wherever its teacher was then, undamaged."""
    found = read_json(folder / STUDENT_NAME)
    if not isinstance(found, dict) or {**found, "teacher": None} != {
        **wanted, "teacher": None, "made": found.get("made")
    }:  # fmt: skip
        return False
    try:
        return bool(found["made"] == _weights_fingerprint(load_as_saved(str(folder))))
    except InputError:
        return False


def student(teacher: str | Path, folder: str | Path, arguments: StudentArguments) -> str:
    """The command `ted student`: make a student, unless the folder holds it already, and describe it.

    Raises:
        InputError: with all problems, before anything is written; also if the folder holds something else.
    """
    folder = Path(folder)
    model_arguments = ModelArguments(None, arguments.model_revision, arguments.trust_remote_code)
    problems: list[str] = []
    blocks: list[int] = []
    is_student = (folder / STUDENT_NAME).is_file()
    taken = folder.exists() and (not folder.is_dir() or bool(foreign_names(folder)))
    in_the_way = f"OUT: expected a new or empty folder, or one of the same student, got {folder}, which holds something"
    if taken and not is_student:
        problems.append(f"{in_the_way}; give another one")
    if arguments.layers is None and arguments.num_layers is None and arguments.hidden_size is None:
        problems.append(
            "layers: expected what the student keeps, got nothing; give --layers 2,4,6, --num_layers or --hidden_size"
        )
    with collect(problems):
        config = load_config(str(teacher), model_arguments)
        with collect(problems):
            blocks = resolve_blocks(num_blocks(config), _numbers(arguments.layers), arguments.num_layers)
        with collect(problems):
            narrow_config(config, arguments.hidden_size or width(config))
    raise_if_any(problems)
    before_width, own = width(config), arguments.hidden_size
    if is_student:
        model = load_as_saved(str(teacher), model_arguments)
        if not _is_made(folder, _description(teacher, model, blocks, own, arguments.narrow, arguments.seed)):
            raise InputError(f"{in_the_way} else; give another one")
        return f"{folder} holds this student already, skipped"
    with locked(folder), publication(folder, {"stage": "student", "command": command()}) as partial:
        before, after = make_student(teacher, blocks, partial, model_arguments, own, arguments.narrow, arguments.seed)
    text = f"{num_blocks(config)} -> {len(blocks)} blocks ({', '.join(map(str, blocks))}), "
    text += f"{before / 1e6:,.1f} M -> {after / 1e6:,.1f} M parameters"
    if own and own != before_width:
        kinds = {"truncated": "the leading part of the teacher's", "random": "random"}
        text += f"\nwidth {before_width} -> {own}; weights: {kinds[arguments.narrow]}"
    return text


def _numbers(layers: str | None) -> list[int] | None:
    try:
        return None if layers is None else [int(number) for number in layers.split(",")]
    except ValueError as error:
        raise InputError(f"layers: expected numbers separated by commas, such as 2,4,6, got {layers}") from error


def load_as_saved(name: str, arguments: ModelArguments | None = None) -> PreTrainedModel:
    """A model in the class it was saved from, where that is one of transformers', so that it keeps its head.

    Raises:
        InputError: no such model, or a folder of this package that is damaged.
    """
    check_inputs(name)
    config = load_config(name, arguments)
    saved_class = getattr(transformers, (config.architectures or [""])[0], AutoModel)
    return load_pretrained(saved_class, name, (arguments or ModelArguments()).hub, dtype=torch.float32)


# --- which of a teacher's blocks a student was made of ---------------------------------------------------------------


def made_of(
    student: str | Path, teacher: LoadedModel | str, arguments: ModelArguments | None = None
) -> list[int] | None:
    """The blocks of this teacher that a student was made of, 1-based; None for a student made otherwise.

    A teacher that was fine-tuned after the student was made of it is the same teacher: the manifest of its stage
    records what it descends from.

    Args:
        teacher: as loaded, or its name. A name on the Hub is compared with the name that the student was made of; the
            weights in a folder are looked at only where its manifest does not settle it.
    """
    found = read_json(Path(student) / STUDENT_NAME)
    if not isinstance(found, dict) or not found.get("layers"):
        return None
    origin = found.get("teacher_backbone")
    if not isinstance(teacher, str):
        known = origin in teacher.ancestry
    elif not Path(teacher).is_dir():
        known = teacher == found.get("teacher")
    else:
        known = origin in read_ancestry(teacher) or origin == backbone_fingerprint(load_as_saved(teacher, arguments))
    if known:
        return list(found["layers"])
    logger.warning(
        "pairs: expected student %s to be made of this teacher's blocks, got one made of blocks %s of another model (or"
        " one not known to be the same); pairing by intervals instead: give pairs to choose others",
        student, ", ".join(map(str, found["layers"])),
    )  # fmt: skip
    return None
