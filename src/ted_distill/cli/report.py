"""`ted report`: the report of a folder, which `ted run` writes at its end by itself."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, TrainingError

HELP = """usage: ted report FOLDER

The report of a finished run or comparison, written into its folder:

  report.html          one page with sentences, tables and plots (needs matplotlib: pip install 'ted-distill[report]')
  report.md            the same without plots
  report.json          the same for programs
  disagreements.csv    every row for which a student and the teacher predict something else

`ted run`, `ted compare` and `ted demo` write it at their end. Made again, it is the same, byte for byte: predictions
of each model are kept in FOLDER/predictions, and what was measured in FOLDER/measured.json.
"""


def read_report(words: list[str]) -> tuple[Path]:
    """The folder to report.

    Raises:
        InputError: no folder, or more words.
    """
    if len(words) != 1 or words[0].startswith("-"):
        got = " ".join(words) or "nothing"
        raise InputError(f"expected one folder of a run or comparison, got {got}; write ted report FOLDER")
    folder = Path(words[0])
    if not folder.is_dir():
        raise InputError(f"report: expected the folder of a run or comparison, got {folder}, which is not; check it")
    return (folder,)


def report(folder: Path) -> None:
    """Write the report and print where it is."""
    from ..report.writing import write_report

    say_files(write_report(folder))


def report_at_the_end(folder: str | Path, held: bool = False) -> list[Path]:
    """The files of the report of what has just ended: a problem with it is one line, and fails nothing.

    Args:
        held: this process holds the folder's lock.
    """
    try:
        from ..report.writing import write_report

        return write_report(folder, held=held)
    except (InputError, TrainingError, OSError) as error:
        why = str(error).removeprefix("- ")
    except Exception as error:  # whatever it is, what has ended stays finished
        why = f"{type(error).__name__} in ted itself: {error}"
    from ..output import program

    sys.stderr.write(f"no report was written: {why}; fix this, then run `{program()} report {folder}`\n")
    return []


def say_files(files: Iterable[Path]) -> None:
    """Print where the report is."""
    say("".join(f"{file}\n" for file in files))


def say(text: str) -> None:
    """Print a text on the main process."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        sys.stdout.write(text)
