"""Notices about the data, each said once: several stages of a run read the same rows."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)

_said: set[str] = set()


def notice(message: str, about: object = None) -> None:
    """Log a line on the main process, unless this process has said it before.

    Args:
        about: where the data are from: the same words about other data are said.
    """
    said = f"{message} {about}"
    if said not in _said and os.environ.get("RANK", "0") == "0":
        _said.add(said)
        logger.warning("%s", message)


def forget_notices() -> None:
    """Say everything again."""
    _said.clear()
