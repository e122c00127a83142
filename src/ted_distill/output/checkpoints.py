"""Checkpoints of a stage that is running. `checkpoint.json` has the sums of a checkpoint's files.

A checkpoint is written under another name and renamed when it is whole, so that one that was cut off is never seen.
Folders called `checkpoint-*` that have no `checkpoint.json` are not ours: they are neither used nor deleted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..errors import TrainingError
from .files import PARTIAL, files_below, free_name, read_json, remove_folder, settle, sync
from .manifests import DamagedFileError, damaged_files, read_sealed, shown_files, sums, write_sealed

logger = logging.getLogger(__name__)

STATE_NAME = "trainer_state.json"
_MANIFEST_NAME = "checkpoint.json"
OPTIMIZER = "optimizer.pt"
DEEPSPEED_OPTIMIZER = "latest"
"""Names DeepSpeed's folder of an optimizer's state, which as many processes as wrote it can read."""
SHARDED_OPTIMIZER = "optimizer_shards"
"""Folder of an optimizer's state in shards, which any number of processes can read."""
_NAME = re.compile(r"checkpoint-(\d+)")


def checkpoint_folder(output_dir: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return output_dir / f"checkpoint-{step}"


def unsealed_checkpoints(output_dir: Path) -> Path:
    """The folder in which checkpoints are written, by all processes of a stage."""
    return output_dir / f"{PARTIAL}checkpoints"


# --- writing --------------------------------------------------------------------------------------------------


def seal_checkpoint(output_dir: Path, step: int) -> None:
    """Make a checkpoint of `unsealed_checkpoints` one of the stage's: add its manifest, sync it, rename it."""
    partial = checkpoint_folder(unsealed_checkpoints(output_dir), step)
    write_sealed(partial / _MANIFEST_NAME, {"step": step, "files": sums(partial, files_below(partial))})
    settle(partial)
    folder = checkpoint_folder(output_dir, step)
    if _is_ours(folder):
        # One that was passed over, because it or a file it needs was damaged.
        remove_folder(folder)
    elif folder.exists():
        other = free_name(folder.with_name(f"kept-{folder.name}"))
        folder.replace(other)
        logger.warning("%s: %s is not this stage's; it is now called %s", output_dir, folder.name, other.name)
    partial.replace(folder)
    unsealed_checkpoints(output_dir).rmdir()
    sync(output_dir)
    sync(output_dir.parent)


def rotate_checkpoints(output_dir: Path, limit: int | None, keep: Collection[int | None]) -> None:
    """Delete the oldest checkpoints, except those of the steps `keep`, until there are at most `limit` [any number]."""
    if not limit or limit < 0:
        return
    # Higher steps predate an interruption and were skipped on resume; delete them first.
    now = max(step for step in keep if step is not None)
    found = sorted(_steps(output_dir), key=lambda step: (step <= now, step))
    for step in found[: max(0, len(found) - limit)]:
        if step not in keep:
            remove_folder(checkpoint_folder(output_dir, step))


def remove_checkpoints(output_dir: Path) -> None:
    """Delete the checkpoints of a finished stage: its folder holds the best of them."""
    for step in _steps(output_dir):
        remove_folder(checkpoint_folder(output_dir, step))


# --- reading --------------------------------------------------------------------------------------------------


def last_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint, damaged or not; for messages, and to see whether there is anything to lose."""
    steps = _steps(output_dir)
    return checkpoint_folder(output_dir, max(steps)) if steps else None


def resumable_checkpoint(
    output_dir: Path, needs_best: bool = True, optimizer: str = OPTIMIZER, processes: int | None = None
) -> Path | None:
    """The newest checkpoint from which a stage can resume exactly; those that are damaged are passed over, with a word.

    Args:
        needs_best: the stage ends with the best checkpoint so far, so that one must be whole as well.
        optimizer: the file of the optimizer's state.
        processes: how many must have written it; None if it does not matter.
    """
    folders = [folder for folder in output_dir.glob("checkpoint-*") if _NAME.fullmatch(folder.name)]
    passed_over = False
    for folder in sorted(folders, key=lambda folder: int(folder.name.split("-")[1]), reverse=True):
        problem = _problem(folder, optimizer, processes) or (_problem_of_best(folder) if needs_best else None)
        if problem is None:
            return folder
        logger.warning("%s: passing over %s: %s", output_dir, folder.name, problem)
        passed_over = True
    if passed_over:
        logger.warning("%s: no usable checkpoint; starting from the beginning", output_dir)
    return None


def check_checkpoint(folder: Path) -> None:
    """Refuse to read a checkpoint whose files are not as they were written.

    Raises:
        TrainingError: names the files.
    """
    if problem := _damage(folder):
        raise TrainingError(
            f"{folder}: expected the checkpoint as it was written, got {problem}; the same command resumes without it"
        )


def _steps(output_dir: Path) -> list[int]:
    """Steps of our checkpoints."""
    found = [folder for folder in output_dir.glob("checkpoint-*") if _NAME.fullmatch(folder.name) and _is_ours(folder)]
    return [int(folder.name.split("-")[1]) for folder in found]


def _is_ours(folder: Path) -> bool:
    return (folder / _MANIFEST_NAME).is_file()


def _problem(folder: Path, optimizer: str, processes: int | None) -> str | None:
    """Why a stage cannot resume from this checkpoint."""
    if damage := _damage(folder):
        return damage
    missing = [name for name in (optimizer, "scheduler.pt") if not (folder / name).is_file()]
    if not processes_of(folder):
        missing.append("rng_state.pth")
    if missing:
        return f"saved without {shown_files(missing)}"
    if processes not in (None, processes_of(folder)):
        return f"saved by {processes_of(folder)} processes, which DeepSpeed reads in as many only, not in {processes}"
    return None


def processes_of(checkpoint: Path) -> int:
    """The number of processes that wrote a checkpoint: each has its own random state."""
    if (checkpoint / "rng_state.pth").is_file():
        return 1
    return sum(1 for _ in checkpoint.glob("rng_state_*.pth"))


def _damage(folder: Path) -> str | None:
    """How a checkpoint differs from what was written."""
    try:
        manifest = read_sealed(folder / _MANIFEST_NAME)
    except DamagedFileError:
        return f"{_MANIFEST_NAME} (changed)"
    if manifest is None:
        return f"no {_MANIFEST_NAME}, so it is not a whole one of this stage"
    damaged = damaged_files(folder, manifest["files"])
    return shown_files(damaged) or None


def _problem_of_best(folder: Path) -> str | None:
    state: dict[str, Any] = read_json(folder / STATE_NAME) or {}
    step = state.get("best_global_step")
    best = checkpoint_folder(folder.parent, step or 0)
    if not step or best == folder:
        return None
    damage = _damage(best)
    return f"the best one so far, {best.name}, has {damage}" if damage else None
