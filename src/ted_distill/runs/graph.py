"""What there is to do, and what of it has to wait for what: plain names, no models and no processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Node:
    """Something to be done once."""

    name: str
    needs: tuple[str, ...] = ()
    """Names of those whose results it reads."""
    after: tuple[str, ...] = ()
    """Names of others that have to be over before it begins, whatever came of them."""


def ready(nodes: Sequence[Node], done: Collection[str], begun: Collection[str]) -> list[Node]:
    """The nodes, in their order, that were not begun and for which everything is over that they wait for."""
    waiting = [node for node in nodes if node.name not in begun and node.name not in done]
    return [node for node in waiting if {*node.needs, *node.after} <= {*done}]


def depending_on(nodes: Sequence[Node], names: Iterable[str]) -> set[str]:
    """Names of the nodes that need one of these, directly or through others. Nodes come after those they need."""
    found = {*names}
    for node in nodes:
        if found & {*node.needs}:
            found.add(node.name)
    return found - {*names}


def makespan(nodes: Sequence[Node], lasts: Mapping[str, float], places: int) -> float:
    """How long all nodes take at this many places, if each begins as soon as it can, in their order.

    Args:
        lasts: node -> how long it takes; others take no time.
    """
    now, done, running = 0.0, set[str](), dict[str, float]()
    while True:
        for node in ready(nodes, done, running)[: places - len(running)]:
            running[node.name] = now + lasts.get(node.name, 0.0)
        if not running:
            return now
        first = min(running, key=lambda name: running[name])
        now = running.pop(first)
        done.add(first)


def waves(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes that can be done at once, again and again, if all take equally long and nothing but needs holds them up."""
    found: list[list[Node]] = []
    done: set[str] = set()
    while wave := ready(nodes, done, ()):
        found.append(wave)
        done |= {node.name for node in wave}
    return found
