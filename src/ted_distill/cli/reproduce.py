"""`ted reproduce` and `ted env`: a run once more, and what a bug report needs."""

from __future__ import annotations

import math
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..errors import GateError, InputError
from .dialect import changes

REPRODUCE_HELP = """usage: ted reproduce RUN [output_dir=FOLDER] [tolerance=0]

Repeats a finished run from its folder, in another folder [RUN-again], and compares scores and weights. The exit code is
4 if a score differs by more than the tolerance. Other hardware or other versions change the last digits of weights.
"""
ENV_HELP = "usage: ted env [--help]\n\nVersions and hardware, for a bug report.\n"
_OURS = "ted-distill"
_TO_WORK_ON_IT = re.compile(r"extra == .(dev|docs)")


def read_reproduce(words: list[str]) -> tuple[Path, Path | None, float]:
    """The run's folder, that of the repetition and the tolerance.

    Raises:
        InputError: no folder, or another word.
    """
    given = dict(change.split("=", 1) for change in changes(words[1:]))
    if unknown := given.keys() - {"output_dir", "tolerance"}:
        raise InputError(f"reproduce: expected output_dir and tolerance, got {', '.join(sorted(unknown))}")
    try:
        tolerance = float(given.get("tolerance", 0))
    except ValueError:
        tolerance = math.nan
    if not 0 <= tolerance < math.inf:
        raise InputError(f"tolerance: expected a number of at least 0, got {given['tolerance']}; give one, such as 0.1")
    output_dir = given.get("output_dir")
    return Path(words[0]), Path(output_dir) if output_dir else None, tolerance


def reproduce(folder: Path, output_dir: Path | None, tolerance: float) -> None:
    """Repeat a run and print the comparison. Raises `GateError` if a score differs by more than the tolerance."""
    from ..runs.reproduce import reproduce

    found = reproduce(folder, output_dir)
    sys.stdout.write(f"\n{found}\n\n{found.folder}\n")
    if found.difference > tolerance:
        raise GateError(f"expected scores within {tolerance:g} of those of {folder}, got {found.difference:.4f} apart")


def env() -> None:
    """Print versions and hardware."""
    import platform

    import torch

    from ..fast.precision import does_bfloat16_well
    from ..report.hardware import hardware

    found = {name: _version(name) for name in _packages()}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines = {
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: number for name, number in found.items() if number},
        **{name.replace("_", " "): value for name, value in hardware().items() if value is not None},
        "threads": torch.get_num_threads(),
        "precision": "bf16 autocast" if does_bfloat16_well(device) else "float32",
    }
    width = max(map(len, lines))
    sys.stdout.write("".join(f"{name:<{width}}  {value}\n" for name, value in lines.items()))


def _packages() -> list[str]:
    """The package, what it and its extras ask for, and what gives it rows."""
    try:
        asked = [line for line in requires(_OURS) or [] if not _TO_WORK_ON_IT.search(line)]
    except PackageNotFoundError:  # run from its source
        asked = ["torch", "transformers"]
    return [_OURS, *(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in asked), "pandas"]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
