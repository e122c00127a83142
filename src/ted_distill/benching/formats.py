"""The formats that a model is measured in, and which of them this machine runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import get_args

import torch

from ..errors import InputError, nearest, shown
from ..export.requirements import PACKAGES
from ..fast.precision import does_bfloat16_well
from .arguments import Format

FORMATS: tuple[Format, ...] = get_args(Format)
OF_FILES: tuple[Format, ...] = ("onnx", "int8")
"""Formats that are files of their own."""


def chosen_formats(given: Sequence[str] | None) -> tuple[list[Format], list[str]]:
    """The formats to measure, in the order of `FORMATS`.

    Args:
        given: those that were asked for [all, but for those that this machine cannot run, or only slowly].

    Returns:
        The formats, and a line on each that is left out or will be slow.

    Raises:
        InputError: unknown formats, or some that were asked for and need packages that are missing.
    """
    if unknown := [name for name in given or () if name not in FORMATS]:
        hint = nearest(str(unknown[0]), FORMATS)
        raise InputError(f"formats: expected some of {', '.join(FORMATS)}, got {shown(unknown[0])}{hint}")
    if given is not None and not given:
        raise InputError(f"formats: expected some of {', '.join(FORMATS)}, got none; leave it out to measure all")
    wanted = [name for name in FORMATS if given is None or name in given]
    notes = []
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing and not {*OF_FILES}.isdisjoint(wanted):
        install = f"without {', '.join(missing)}; pip install 'ted-distill[onnx]'"
        if given is not None:
            raise InputError(
                f"formats: expected the packages {', '.join(PACKAGES)} for onnx and int8, got an environment {install}"
            )
        wanted = [name for name in wanted if name not in OF_FILES]
        notes.append(f"ONNX is left out, in an environment {install}.")
    if "bf16" in wanted and not does_bfloat16_well(torch.device("cpu")):
        why = "this processor has no instructions for products in bf16"
        if given is None:
            wanted.remove("bf16")
            notes.append(f"PyTorch bf16 is left out, as {why}; --formats {' '.join(FORMATS)} measures it all the same.")
        else:
            notes.append(f"PyTorch bf16 may be slower than float32, as {why}.")
    return wanted, notes
