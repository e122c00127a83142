"""Which node is begun when: as soon as what it needs is done and a place is free, in the order of the nodes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...errors import reason_of
from ..graph import Node, depending_on, ready

logger = logging.getLogger(__name__)


class Pool(Protocol):
    """Does nodes at several places at once."""

    @property
    def places(self) -> int:
        """How many nodes it does at once."""

    def start(self, place: int, node: Node, done: Mapping[str, Any]) -> None:
        """Begin a node at a free place."""

    def next(self) -> tuple[str, Any]:
        """Wait for a node to end: its name, and its result or the exception that ended it."""


def work_through(
    nodes: Sequence[Node],
    pool: Pool,
    done: Mapping[str, Any],
    tolerated: tuple[type[Exception], ...] = (),
) -> dict[str, Any]:
    """Do all nodes, and return their results by name, together with those that were done before.

    When one fails, no other is begun; those at work are waited for, as their results would be needed again.

    Args:
        done: results of nodes that are done already.
        tolerated: failures that count as a result: the exception itself, also of those that need the node.

    Raises:
        Exception: what ended the first node that failed.
    """
    results = dict(done)
    running: dict[str, int] = {}
    free = list(range(pool.places))
    failure: Exception | None = None
    while True:
        for node in ready(nodes, results, running) if failure is None else ():
            if not free:
                break
            running[node.name] = free.pop(0)
            pool.start(running[node.name], node, results)
        if not running:
            break
        name, outcome = pool.next()
        free = sorted([*free, running.pop(name)])
        if isinstance(outcome, tolerated):
            results |= dict.fromkeys([name, *depending_on(nodes, [name])], outcome)
        elif isinstance(outcome, Exception):
            failure = failure or outcome
            if running:
                logger.warning("%s failed (%s); waiting for %s", name, reason_of(outcome), ", ".join(running))
        else:
            results[name] = outcome
    if failure is not None:
        raise failure
    left = [node.name for node in nodes if node.name not in results]
    if left:
        raise AssertionError(f"{', '.join(left)} need what is never done")
    return results
