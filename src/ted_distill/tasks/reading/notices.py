"""Notices about the data, each said once: several stages of a run read the same rows."""

from __future__ import annotations

import logging
import os

logger = logging.getLogger(__name__)

_said: set[str] = set()


def notice(message: str) -> None:
    """Log a line on the main process, unless this process has said it before."""
    if message not in _said and os.environ.get("RANK", "0") == "0":
        _said.add(message)
        logger.warning("%s", message)


def forget_notices() -> None:
    """Say everything again."""
    _said.clear()
