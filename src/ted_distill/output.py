"""The files of a stage: checkpoints while it runs, and a finished folder that other tools can load.

Files appear whole or not at all, and `stage.json`, which marks the stage as finished, is written last.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .errors import InputError

MANIFEST_NAME = "stage.json"
SETTINGS_NAME = "settings.json"
RESULTS_NAME = "all_results.json"
STATE_NAME = "trainer_state.json"


def check_writable(folder: Path) -> None:
    """Refuse an output folder that cannot be written, before any training. Leaves nothing behind.

    Raises:
        InputError: says why.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(
            f"output_dir: {folder} cannot be written ({error.strerror}); choose another folder or change its rights"
        ) from error


# --- checkpoints ----------------------------------------------------------------------------------------------


def checkpoint_folder(output_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return output_dir / f"checkpoint-{step}"


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest complete checkpoint.

    The Trainer writes the state last, so a checkpoint without a readable state was cut off; it is skipped.
    """
    checkpoints = [folder for folder in output_dir.glob("checkpoint-*") if folder.name.split("-")[-1].isdigit()]
    for folder in sorted(checkpoints, key=lambda folder: int(folder.name.split("-")[-1]), reverse=True):
        if read_json(folder / STATE_NAME) is not None:
            return folder
    return None


def remove_checkpoints(output_dir: Path) -> None:
    """Delete all checkpoints: the finished stage's folder holds the best of them."""
    for folder in output_dir.glob("checkpoint-*"):
        shutil.rmtree(folder)


# --- the finished folder --------------------------------------------------------------------------------------


@contextmanager
def atomic_files(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files replace those of `folder` one by one once all of them are written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
        yield Path(partial)
        for file in sorted(Path(partial).iterdir()):
            file.chmod(_readable())
            file.replace(folder / file.name)


def _readable() -> int:
    """The permissions that a plain `open` would give: safetensors makes its files readable only by their owner."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def write_stage(
    folder: Path, write_files: Callable[[Path], None], results: dict[str, Any], manifest: dict[str, Any]
) -> None:
    """Publish a finished stage: its files, `all_results.json`, and last of all the manifest."""
    with atomic_files(folder) as partial:
        write_files(partial)
        write_json(partial / RESULTS_NAME, results)
    with atomic_files(folder) as partial:
        write_json(partial / MANIFEST_NAME, {**manifest, "versions": versions()})


def write_json(file: Path, content: Any) -> None:
    """Write JSON that people can read."""
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")


def read_json(file: Path) -> Any | None:
    """Content of a JSON file; None if it is missing or cut off."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def command() -> str:
    """The current command line, for running it again."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that produced the results."""
    names = ("ted-distill", "torch", "transformers", "accelerate", "datasets")
    return {name: version(name) for name in names} | {"python": platform.python_version()}
