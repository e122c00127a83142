"""What a student's card calls the models that it came from: not the folders of a run, which no reader knows."""

from __future__ import annotations

from pathlib import Path

from ..models.students import STUDENT_NAME
from ..output import SETTINGS_NAME, read_if_sound, read_json, short_name
from ..wording import counted

_PREPARED = ("finetune", "learn_filters")
"""Stages after which a model is still known by the name that it had before."""
_MOST = 4
"""Stages that may lie between a model and the one that a run began with."""


def teacher_words(place: str) -> str:
    """A teacher by the name of the model that a run began with."""
    return _words(*_first(Path(place)))


def student_words(place: str) -> tuple[str, str]:
    """A student before its distillation, for a heading and in a sentence: by its teacher's blocks, or by its name."""
    folder = Path(place)
    name, tuned = _first(folder)
    made = read_json(folder / STUDENT_NAME)
    if not isinstance(made, dict) or _stage(folder) not in (None, *_PREPARED):
        return name, _words(name, tuned)
    source, blocks = folder.parent / made["teacher"], made["layers"]
    of = _first(source) if _stage(source) in _PREPARED else (made["teacher"], False)
    words = f"block{'s' * (len(blocks) > 1)} {', '.join(map(str, blocks))} of {_words(*of)}"
    if "hidden_size" in made:
        words += f"; narrowed to {made['hidden_size']}"
    return f"{counted(len(blocks), 'block')} of {short_name(of[0])}", f"{words}; fine-tuned" if tuned else words


def _words(name: str, tuned: bool) -> str:
    return f"`{short_name(name)}`, fine-tuned" if tuned else f"`{short_name(name)}`"


def _first(folder: Path) -> tuple[str, bool]:
    """The name of the model that the stages of a run began with, and whether one of them fine-tuned it."""
    name, tuned = short_name(folder), False
    for _ in range(_MOST):
        stage = _stage(folder)
        if stage not in _PREPARED:
            break
        tuned |= stage == "finetune"
        name = read_if_sound(folder / SETTINGS_NAME).get("places", {}).get("model", name)
        folder = folder.parent / name  # where a run has it, if it is one of its own
    return name, tuned


def _stage(folder: Path) -> str | None:
    """The stage that a folder holds; None for other models."""
    identity = read_if_sound(folder / SETTINGS_NAME).get("identity")
    return identity.get("stage") if isinstance(identity, dict) else None
