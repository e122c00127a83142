"""Students made from teachers, as folders and as the command `ted student`; and which blocks a student is made of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, collect, raise_if_any
from ..fast.embeddings import token_table
from ..identity import (
    at_commit,
    backbone_fingerprint,
    config_content,
    fingerprint,
    head_fingerprint,
    known_commit,
    pinning,
    plain,
    tokenizer_fingerprint,
)
from ..method.shapes import num_blocks, width
from ..output import (
    MANIFEST_NAME,
    check_writable,
    command,
    foreign_names,
    locked,
    publication,
    read_if_sound,
    read_json,
    refuse_busy,
    short_name,
    versions,
    write_json,
)
from ..output.cards import CARD_NAME, card_data, card_text, origin_of
from ..ranges import at_least, between, check_ranges, described
from ..tasks import Task
from ..wording import parameters
from .as_saved import load_as_saved
from .blocks import resolve_blocks, student_from_teacher
from .load import LoadedModel, ModelArguments, load_config, read_ancestry
from .narrowing.important import TaskRows, important_student
from .narrowing.narrow import Narrow, check_narrow, narrow_config, narrow_model
from .places import resolve_place
from .pretrained import load_tokenizer

logger = logging.getLogger(__name__)

STUDENT_NAME = "student.json"
"""The file beside a student made from a teacher: it lists the teacher's blocks that the student was made of."""
_WEIGHTS_ARE: dict[Narrow, str] = {
    "truncated": "the leading part of the teacher's",
    "random": "random",
    "important": "what matters on rows of the task, fitted to the teacher",
}


@described
@dataclass
class StudentArguments:
    """What a student keeps of its teacher."""

    _argument_group_name: ClassVar[str] = "student"

    layers: str | None = None
    """the teacher's blocks to keep, 1-based, such as 2,4,6"""
    num_layers: Annotated[int | None, at_least(1)] = None
    """or how many: evenly spaced, ending with the last"""
    hidden_size: Annotated[int | None, at_least(1)] = None
    """width of a narrower student, with fewer heads"""
    narrow: Narrow | None = None
    """its weights: important (to rows of --task), truncated (leading parts) or random [important with --task, else
    truncated]"""
    seed: Annotated[int, between(0, 2**32 - 1)] = 42
    """random seed of such weights, or of the choice of rows"""
    model_revision: str = "main"
    """the teacher's branch, tag or commit on the Hub"""
    trust_remote_code: bool = False
    """run code that comes with a Hub model"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)


@pinning()
def make_student(
    teacher: str | Path,
    blocks: list[int],
    folder: Path,
    arguments: ModelArguments | None = None,
    hidden_size: int | None = None,
    narrow: str = "truncated",
    seed: int = 42,
    rows: TaskRows | None = None,
    task: Task | None = None,
) -> tuple[int, int]:
    """Write a student made of blocks of a teacher, with the teacher's tokenizer and `student.json`, into `folder`.

    Args:
        hidden_size, narrow, seed: see `narrow.narrow_model`.
        rows: with `important`, which also fits a student of fewer blocks and the teacher's own width.
        task: see `load_as_saved`.

    Returns:
        Parameters of teacher and student.

    Raises:
        InputError: no such teacher, no such blocks, or a width that does not fit.
    """
    teacher = resolve_place(teacher)
    model = load_as_saved(teacher, arguments, task=task)
    tokenizer = load_tokenizer(teacher, (arguments or ModelArguments()).hub)
    description = _description(teacher, model, tokenizer, blocks, hidden_size, narrow, seed, rows)
    if rows is not None and narrow == "important":
        student = important_student(model, blocks, hidden_size or width(model.config), rows, seed)
    else:
        student = student_from_teacher(model, blocks)
        if "hidden_size" in description:
            student = narrow_model(student, description["hidden_size"], narrow, seed)
    description["made"] = _weights_fingerprint(student)
    student.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / STUDENT_NAME, description)
    commit = known_commit(teacher, (arguments or ModelArguments()).model_revision)
    _write_card(folder, at_commit(teacher, commit), blocks)
    return model.num_parameters(), student.num_parameters()


def _write_card(folder: Path, teacher: str | Path, blocks: list[int]) -> None:
    """The card that hands on what is known of the teacher to the cards of whatever is made of the student."""
    data = card_data(origin_of(teacher), None, ["ted-distill", "student"])
    body = f"# A student of {short_name(teacher)}\n\nMade of blocks {', '.join(map(str, blocks))}; not trained yet."
    (folder / CARD_NAME).write_text(card_text(data, body), encoding="utf-8")


def _description(
    teacher: str | Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    blocks: list[int],
    hidden_size: int | None,
    narrow: str,
    seed: int,
    rows: TaskRows | None,
) -> dict[str, Any]:
    """The content of `student.json`, apart from the student's own weights: everything they follow from."""
    found: dict[str, Any] = {
        "teacher": short_name(teacher),
        "teacher_backbone": backbone_fingerprint(model),
        "teacher_config": fingerprint(config_content(model.config)),
        "teacher_head": head_fingerprint(model),
        "teacher_tokenizer": tokenizer_fingerprint(tokenizer),
        "layers": blocks,
    }
    if hidden_size is not None and (hidden_size != width(model.config) or narrow == "important"):
        found |= {"hidden_size": hidden_size, "weights": narrow}
        found |= {"seed": seed} if narrow == "random" else {}
        if rows is not None and narrow == "important":
            found |= {"rows": plain(rows.identity)}
    return found


def _weights_fingerprint(model: PreTrainedModel) -> str:
    return fingerprint([backbone_fingerprint(model), head_fingerprint(model)])


def _is_made(folder: Path, wanted: dict[str, Any], arguments: ModelArguments) -> bool:
    """Whether a folder holds the student of this description, wherever its teacher was then, undamaged.

    Args:
        arguments: how the teacher is loaded, whose code the student shares.
    """
    found = read_json(folder / STUDENT_NAME)
    # Of a config, another version of transformers may know more fields; the weights say whose it was.
    same = read_if_sound(folder / MANIFEST_NAME).get("versions") == versions()
    any_of_these = ("teacher",) if same else ("teacher", "teacher_config")
    if not isinstance(found, dict) or found != wanted | {
        key: found.get(key) for key in (*any_of_these, "made")
    }:  # fmt: skip
        return False
    try:
        return bool(
            found["made"] == _weights_fingerprint(load_as_saved(str(folder), ModelArguments.trusting_as(arguments)))
        )
    except InputError:
        return False


def student(
    teacher: str | Path,
    folder: str | Path,
    arguments: StudentArguments,
    read_rows: Callable[[], TaskRows] | None = None,
) -> str:
    """The command `ted student`: make a student, unless the folder holds it already, and describe it.

    Args:
        read_rows: rows of the task that was given; None if none was.

    Raises:
        InputError: with all problems, before anything is written; also if the folder holds something else.
    """
    folder, teacher = Path(folder), str(teacher)
    model_arguments = ModelArguments(None, arguments.model_revision, arguments.trust_remote_code)
    problems: list[str] = []
    blocks: list[int] = []
    is_student = (folder / STUDENT_NAME).is_file()
    taken = folder.exists() and (not folder.is_dir() or bool(foreign_names(folder)))
    in_the_way = f"OUT: expected a new or empty folder, or one of the same student, got {folder}, which holds something"
    if taken and not is_student:
        problems.append(f"{in_the_way}; give another one")
    elif not is_student:
        with collect(problems):
            check_writable(folder, "OUT")
            refuse_busy(folder)
    narrow = arguments.narrow or ("important" if read_rows else "truncated")
    problems += _contradictions(arguments, narrow, read_rows is not None)
    if arguments.layers is None and arguments.num_layers is None and arguments.hidden_size is None:
        problems.append(
            "layers: expected what the student keeps, got nothing; give --layers 2,4,6, --num_layers or --hidden_size"
        )
    with collect(problems):
        teacher = resolve_place(teacher)
        config = load_config(teacher, model_arguments)
        with collect(problems):
            blocks = resolve_blocks(num_blocks(config), _numbers(arguments.layers), arguments.num_layers)
        with collect(problems):
            if arguments.hidden_size:
                narrow_config(config, arguments.hidden_size)
                check_narrow(config.model_type, narrow)
    raise_if_any(problems)
    own, seed = arguments.hidden_size, arguments.seed
    rows = read_rows() if read_rows else None
    if is_student:
        model, tokenizer = load_as_saved(teacher, model_arguments), load_tokenizer(teacher, model_arguments.hub)
        wanted = _description(teacher, model, tokenizer, blocks, own, narrow, seed, rows)
        if not _is_made(folder, wanted, model_arguments):
            raise InputError(f"{in_the_way} else; give another one")
        return f"{folder} holds this student already, skipped"
    with locked(folder), publication(folder, {"stage": "student", "command": command()}) as partial:
        before, after = make_student(teacher, blocks, partial, model_arguments, own, narrow, seed, rows)
    text = f"{num_blocks(config)} -> {len(blocks)} blocks ({', '.join(map(str, blocks))}), "
    text += f"{parameters(before)} -> {parameters(after)} parameters"
    if getattr(config, "is_encoder_decoder", False):
        text += "\nblocks are of the encoder; the decoder stays whole"
    if own and (own != width(config) or rows):
        text += f"\nwidth {width(config)} -> {own}; weights: {_WEIGHTS_ARE[narrow]}"
    return text


def _contradictions(arguments: StudentArguments, narrow: str, has_task: bool) -> list[str]:
    """What does not go together: weights of a narrower student need its width, and `important` ones a task."""
    if narrow == "important" and not has_task:
        return ["narrow: expected a task with important, whose rows say what is, got none; give --task, --train_file"]
    if has_task and narrow != "important":
        return [f"task: expected none with narrow {narrow}, which needs no rows, got one; use --narrow important"]
    if (arguments.narrow or has_task) and arguments.hidden_size is None:
        return [f"narrow: expected a hidden_size with {narrow}, got none; give one, up to the teacher's"]
    return []


def _numbers(layers: str | None) -> list[int] | None:
    try:
        return None if layers is None else [int(number) for number in layers.split(",")]
    except ValueError as error:
        raise InputError(f"layers: expected numbers separated by commas, such as 2,4,6, got {layers}") from error


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
    elif not Path(teacher := resolve_place(teacher)).is_dir():
        known = teacher == found.get("teacher")
    else:
        known = _descends(teacher, origin, arguments)
    if known:
        return list(found["layers"])
    logger.warning(
        "pairs: expected student %s to be made of this teacher's blocks, got one made of blocks %s of another model (or"
        " one not known to be the same); pairing by intervals instead: give pairs to choose others",
        student, ", ".join(map(str, found["layers"])),
    )  # fmt: skip
    return None


def descends_from(teacher: str, model: str, arguments: ModelArguments | None = None, task: Task | None = None) -> bool:
    """Whether a teacher is this model or was trained from it, so that `made_of` knows a student of its blocks.

    Args:
        teacher: a name on the Hub descends from itself alone; of a folder see `made_of`.
        task: see `load_as_saved`.
    """
    teacher, model = resolve_place(teacher), resolve_place(model)
    if teacher == model or not Path(teacher).is_dir():
        return teacher == model
    # Which spares loading two models that can have nothing in common.
    if load_config(teacher, arguments).model_type != load_config(model, arguments).model_type:
        return False
    return _descends(teacher, backbone_fingerprint(load_as_saved(model, arguments, task=task)), arguments, task)


def _descends(teacher: str, origin: Any, arguments: ModelArguments | None, task: Task | None = None) -> bool:
    """Whether the model in a folder has this backbone, or had it before a known training."""
    if origin in read_ancestry(teacher):
        return True
    return bool(origin == backbone_fingerprint(load_as_saved(teacher, arguments, task=task)))


def has_teachers_embeddings(student: LoadedModel, teacher: LoadedModel | None) -> bool:
    """Whether a student still is as it was made of blocks of the fine-tuned teacher, at full width.

    False once it was trained, for narrower students, and for those with word embeddings of another model.

    Args:
        teacher: None where there is none to compare with: then it is any model with a head for the task.
    """
    found = read_json(Path(student.name) / STUDENT_NAME)
    if not isinstance(found, dict) or "hidden_size" in found or student.fresh:
        return False
    if teacher is not None and not _have_the_same_embeddings(student.model, teacher.model):
        return False
    weights = [student.identity["backbone"], student.identity["head"]]
    return bool(found.get("made") == fingerprint(weights))


def has_embeddings_of_another(student: str | Path, teacher: str | Path, arguments: ModelArguments) -> bool:
    """Whether a student was made of blocks of a model with other word embeddings than this teacher's."""
    if not (Path(student) / STUDENT_NAME).is_file():
        return False
    models = [load_as_saved(name, ModelArguments.trusting_as(arguments)) for name in (student, teacher)]
    return not _have_the_same_embeddings(*models)


def _have_the_same_embeddings(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    tables = [token_table(model) for model in (one, other)]
    weights = [torch.empty(0) if table is None else table.weight.detach().cpu() for table in tables]
    return torch.equal(*weights)
