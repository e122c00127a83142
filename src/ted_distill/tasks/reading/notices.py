"""Notices about data and models, each said once: several stages of a run read the same ones."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ...output.processes import process_rank

logger = logging.getLogger(__name__)

_said: set[str] = set()


def notice(message: str, about: object = None) -> None:
    """Log a line on the main process, unless this process has said it before.

    Args:
        about: where the data are from: the same words about other data are said.
    """
    said = f"{message} {about}"
    if said not in _said and process_rank() == 0:
        _said.add(said)
        logger.warning("%s", message)


def said_notices() -> frozenset[str]:
    """What was said so far, for `begin_with` in another process."""
    return frozenset(_said)


def begin_with(said: Iterable[str]) -> None:
    """Say nothing that another process has said."""
    _said.update(said)
