"""What there is to do, and what of it has to wait for what: plain names, no models and no processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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


def waves(nodes: Sequence[Node]) -> list[list[Node]]:
    """Nodes that can be done at once, again and again, if all take equally long and nothing but needs holds them up."""
    found: list[list[Node]] = []
    done: set[str] = set()
    while wave := ready(nodes, done, ()):
        found.append(wave)
        done |= {node.name for node in wave}
    return found
