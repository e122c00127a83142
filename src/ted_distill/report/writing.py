"""Write the report of a folder.

FOLDER/report.json, report.md     everything, for programs and for people
FOLDER/report.html                the same with plots, one file; needs matplotlib
FOLDER/disagreements.csv          all rows for which a student and the teacher differ
FOLDER/predictions, measured.json what the report is made of: predictions of each model, and its size and speed
"""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..entries import entry
from ..errors import InputError, TrainingError
from ..models.trying.known import knowing_models
from ..output import atomic_files, check_writable, explain_full_disk, locked, on_main, refuse_busy
from ..runs.kept_predictions import Predictions, kept_predictions, reread_predictions
from ..tasks import Task
from .contents import all_differences, contents
from .costs import costs
from .disagreements import DISAGREEMENTS_NAME, disagreements_csv
from .folders import Reported, read_folder
from .markdown import markdown

logger = logging.getLogger(__name__)

REPORT = ("report.json", "report.md", "report.html")


@entry
@knowing_models()
def write_report(folder: str | Path, task: Task | None = None, *, held: bool = False) -> list[Path]:
    """Write the report of a finished run or comparison into its folder.

    Models are run on the rows that are scored, once: their predictions, size and speed are kept, and a report made
    again is the same, byte for byte. Under `torchrun`, to be called by all processes.

    Args:
        task: with the rows of the run, where they were in no files [the recipe's].
        held: this process holds the folder's lock already.

    Returns:
        The files of the report, in the main process. Without matplotlib there is no `report.html`.

    Raises:
        InputError: no run or comparison has finished in the folder, another process works in it, or it is read-only.
        TrainingError: the disk is full.
    """
    reported = read_folder(Path(folder), task)
    folder = reported.folder
    check_writable(folder, "report")
    if not held:
        refuse_busy(folder)
    with nullcontext() if held else locked(folder):
        predictions = _predictions(reported)
        files: list[Path] = []
        with explain_full_disk([folder]):
            on_main(lambda: files.extend(_write(reported, predictions)))
    return files


def _predictions(reported: Reported) -> dict[str, Predictions]:
    """Of each model that is there, by name; the others are named in `reported.missing`."""
    task, found = reported.task, {}
    for name in reported.names if task is not None else []:
        at, args = reported.predictions(name), reported.scoring(name)
        assert task is not None  # so are the arguments
        assert args is not None
        try:
            found[name] = kept_predictions(at, reported.model(name), task, args, reported.loading(name))
        except (InputError, TrainingError) as error:
            known = reread_predictions(at, task)
            if known is not None:
                found[name] = known
            else:
                reported.missing.append(f"No predictions of {name}: {str(error).removeprefix('- ')}")
    return found


def _write(reported: Reported, predictions: dict[str, Predictions]) -> list[Path]:
    different = all_differences(reported, predictions)
    content = _plain(contents(reported, predictions, costs(reported), different))
    texts = {
        "report.json": json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": markdown(content),
    }
    if find_spec("matplotlib") is None:
        logger.warning("report.html needs matplotlib, which is missing: pip install 'ted-distill[report]'")
    else:
        from .page import page

        texts["report.html"] = page(content)
    shown = {name: found for name, found in different.items() if found is not None}
    if shown:
        texts[DISAGREEMENTS_NAME] = disagreements_csv(shown)
    with atomic_files(reported.folder) as partial:
        for name, text in texts.items():
            # Characters that no encoding has, such as half of a pair, may be in the data.
            (partial / name).write_bytes(text.encode("utf-8", errors="replace"))
    # Of the report before, which may have known more.
    for name in {"report.html", DISAGREEMENTS_NAME} - texts.keys():
        (reported.folder / name).unlink(missing_ok=True)
    return [reported.folder / name for name in texts]


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    """As read back from the file: tuples are lists, and numbers have at most six digits after the point."""
    return json.loads(json.dumps(_rounded(content), default=str))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(held) for held in value]
    if isinstance(value, float):
        return round(value, 6) if value == value and abs(value) != float("inf") else None
    return value
