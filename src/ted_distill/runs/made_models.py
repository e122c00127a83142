"""Models that a run makes without training them: a teacher from scratch, a student of a model's blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..identity import (
    Identity,
    backbone_fingerprint,
    changes,
    config_content,
    head_fingerprint,
    plain,
    tokenizer_fingerprint,
)
from ..method.shapes import num_blocks
from ..models.as_saved import load_as_saved
from ..models.pretrained import load_tokenizer
from ..output import (
    MANIFEST_NAME,
    DamagedFileError,
    finish_publication,
    on_main,
    publication,
    published_damage,
    read_manifest,
    remove_leftovers,
    versions,
)
from ..stages.stage_identity import refuse_foreign
from ..tasks import Task
from .matching import student_blocks
from .narrowing import narrowing_identity
from .recipe import Recipe, stage_arguments
from .recipe_keys import FINETUNE, FROM_SCRATCH

logger = logging.getLogger(__name__)


def scratch_identity(recipe: Recipe, task: Task) -> Identity:
    """Everything a teacher with random weights depends on: the recipe's section, its tokenizer's text, the seed."""
    seed = stage_arguments(recipe, FINETUNE[0])[0].seed
    return {
        "stage": "from_scratch",
        **recipe.content[FROM_SCRATCH],
        "data": task.identity["data"]["train"],
        "seed": seed,
    }


def student_identity(recipe: Recipe, source: str, task: Task) -> Identity:
    """Everything a student made of `source` depends on: that model, blocks, width and rows. Raises `InputError`."""
    model = load_as_saved(source, recipe.model, task=task)
    made_of = {"backbone": backbone_fingerprint(model), "config": config_content(model.config)}
    made_of["tokenizer"] = tokenizer_fingerprint(load_tokenizer(source, recipe.model.hub))
    if recipe.run.start == "teacher":
        made_of["head"] = head_fingerprint(model)  # others get a new one
    return {
        "stage": "student",
        "source": made_of,
        "blocks": student_blocks(recipe, num_blocks(model.config)),
        "hidden_size": recipe.run.student_hidden_size,
        **narrowing_identity(recipe, model, task),
    }


def is_made(folder: Path, identity: Identity) -> bool:
    """Whether a folder holds this model; writes nothing.

    Raises:
        InputError: it holds another model, a damaged one, or files that no run wrote.
    """
    try:
        found = read_manifest(folder)
    except DamagedFileError as error:
        raise _damaged(folder, f"a damaged {MANIFEST_NAME}") from error
    if found is None:
        refuse_foreign(folder)
        return False
    recorded, same = found.get("identity", {}), found.get("versions") == versions()
    if differences := changes(recorded, _as_recorded(identity, recorded), same_versions=same):
        raise InputError(
            f"output_dir: expected {folder} to hold the model that the recipe asks for, got one that differs: "
            f"{'; '.join(differences)}; delete the folder or give another output_dir"
        )
    if damage := published_damage(folder, found):
        raise _damaged(folder, damage)
    return True


def _as_recorded(identity: Identity, recorded: Identity) -> Identity:
    """The identity without the tokenizer of what a student is made of, where an older version did not record that."""
    source = identity.get("source")
    if not isinstance(source, dict) or "tokenizer" in recorded.get("source", {}):
        return identity
    return {**identity, "source": {key: value for key, value in source.items() if key != "tokenizer"}}


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(
        f"output_dir: expected the model in {folder} as it was made, got {what}; delete the folder, and the same "
        "command makes it again"
    )


def make_once(folder: Path, identity: Identity, make: Callable[[Path], object]) -> None:
    """Make a model and record its identity, unless it is there. Raises `InputError`, see `is_made`.

    Args:
        make: writes the model into a folder.
    """

    def publish() -> None:
        finish_publication(folder)
        remove_leftovers(folder)
        if not is_made(folder, identity):
            logger.warning("== %s -> %s", identity["stage"].replace("_", " "), folder)
            with publication(folder, {"stage": identity["stage"], "identity": plain(identity)}) as partial:
                make(partial)

    on_main(publish)
