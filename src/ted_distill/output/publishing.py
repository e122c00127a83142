"""A published folder: a model or scores, and `stage.json`. It is published whole, or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..identity import may_be_on_hub, split_revision
from .files import PARTIAL, files_below, free_name, move_files, partial_folder, settle, sync
from .locks import LOCK_NAME
from .manifests import MANIFEST_NAME, read_if_sound, sums, write_sealed
from .origins import versions

logger = logging.getLogger(__name__)

_READY = ".ted-ready"
"""A complete publication, manifest included: from then on, whatever is interrupted is finished later."""


@contextmanager
def publication(folder: Path, manifest: Mapping[str, Any], beside: tuple[str, ...] = ()) -> Iterator[Path]:
    """A temporary folder for files; at the end, all of them are in `folder`, or none if something went wrong.

    Everything is written and synced under another name. One rename then decides that it is published, and files are
    moved to their places; if that is cut off, `finish_publication` goes on with it. What an earlier publication has and
    this one lacks is deleted; files that no manifest names stay.

    Args:
        manifest: what `stage.json` says besides the versions and the sums of all files.
        beside: files that are in `folder` already and belong to what is published.
    """
    finish_publication(folder)
    with partial_folder(folder) as partial:
        yield partial
        files = sums(partial, files_below(partial)) | sums(folder, beside)
        write_sealed(partial / MANIFEST_NAME, {**manifest, "versions": versions(), "files": files})
        settle(partial)
        _set_aside(folder, files_below(partial))
        partial.replace(folder / _READY)
        sync(folder)
    finish_publication(folder)


def foreign_names(folder: Path) -> list[str]:
    """What a folder without a manifest holds that no interrupted publication explains."""
    held = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [] if is_half_published(folder) else [name for name in held if not _is_scaffold(name)]


def has_scaffold(folder: Path) -> bool:
    """Whether a kill left something in a folder that this package needs only while it works."""
    return folder.is_dir() and any(_is_scaffold(entry.name) for entry in folder.iterdir())


def _is_scaffold(name: str) -> bool:
    """Whether only this package has such names, for what is not finished."""
    return name in (_READY, LOCK_NAME) or name.startswith(PARTIAL)


def is_half_published(folder: Path) -> bool:
    """Whether a publication was cut off that `finish_publication` can finish."""
    return bool(read_if_sound(folder / _READY / MANIFEST_NAME))


def refuse_own_folder(folder: Path, models: Iterable[str | Path], name: str = "output_dir") -> None:
    """Refuse to write into the folder of a model that goes in, or where a folder would hide one of the Hub.

    Args:
        name: of the argument that gives the folder, for the message.

    Raises:
        InputError: names the folder.
    """
    models = list(models)
    if any(folder.is_dir() and Path(model).is_dir() and folder.samefile(model) for model in models):
        raise InputError(f"{name}: expected another folder than that of the model, got {folder}; give another {name}")
    above = (folder.absolute(), *folder.absolute().parents)
    missing = (str(model) for model in models if not Path(model).exists())
    of_hub = (split_revision(model)[0] for model in missing if may_be_on_hub(model))
    if hidden := next((model for model in of_hub if Path(model).absolute() in above), None):
        raise InputError(
            f"{name}: expected a folder that hides no model of the Hub, got {folder}, whose folder {hidden}, which is "
            f"not there yet, would be taken for the model of that name; give another {name}"
        )


def finish_publication(folder: Path) -> None:
    """Move files that are ready to be published to their places, the manifest last; those of before go."""
    ready = folder / _READY
    if not ready.is_dir():
        return
    if is_half_published(folder):
        names = files_below(ready)
        _remove_former(folder, read_if_sound(ready / MANIFEST_NAME).get("files", {}))
        move_files(ready, folder, [name for name in names if name != MANIFEST_NAME])
        move_files(ready, folder, [MANIFEST_NAME])
    # Without a manifest nothing but empty folders is left.
    shutil.rmtree(ready, ignore_errors=True)
    sync(folder)


def _remove_former(folder: Path, now: Collection[str]) -> None:
    """Delete the files of the earlier publication, which its manifest names, that the new one lacks.

    Its manifest is replaced last, so that what is cut off here is made up for.
    """
    for name in read_if_sound(folder / MANIFEST_NAME).get("files", {}).keys() - set(now):
        # A manifest that came with somebody else's folder may name anything.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            continue
        (folder / name).unlink(missing_ok=True)
        # Folders are no files of ours once something else is in them.
        with suppress(OSError):
            if (inner := (folder / name).parent) != folder:
                inner.rmdir()


def _set_aside(folder: Path, names: list[str]) -> None:
    """Give another name to files that are in the way and that this package did not write."""
    ours = {MANIFEST_NAME, *read_if_sound(folder / MANIFEST_NAME).get("files", {})}
    for name in names:
        if name not in ours and (folder / name).exists():
            other = free_name(folder / f"{name}.kept")
            (folder / name).replace(other)
            logger.warning("%s: %s is not this stage's; it is now called %s", folder, name, other.name)
