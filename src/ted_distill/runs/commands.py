"""The steps of a run as commands for a shell, `make`, or any scheduler that starts one after others are done."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from .graph import Node
from .planning import plan
from .recipe import Recipe
from .side_by_side.node_graph import Graph, Started
from .steps import Steps

FORMATS = ("sh", "make")
_ALL = "table"
"""What comes last: the table, the best student, the report."""


def plan_text(recipe: Recipe, words: Sequence[str], kind: str) -> str:
    """The commands of a run, and what each waits for.

    Each does nothing if it was done before, and goes on where it was interrupted.

    Args:
        words: the recipe's name and the changes, as `ted run` takes them.
        kind: one of `FORMATS`.

    Raises:
        InputError: `ted show` would refuse the recipe.
    """
    steps = Steps(recipe)
    found = Graph([Started(steps, plan(recipe, steps.task, tokenise=False))]).nodes
    nodes = [*found, Node(_ALL, tuple(node.name for node in found))]
    return (_shell if kind == "sh" else _makefile)(nodes, words, Path(str(recipe.run.output_dir)))


def _command(name: str, words: Sequence[str]) -> str:
    own = ["workers=1"] if name == _ALL else ["--only", name]
    return shlex.join(["ted", "run", *words, *own])


def _shell(nodes: Sequence[Node], words: Sequence[str], folder: Path) -> str:
    lines = [
        "#!/bin/sh",
        f"# The steps of {folder}, in an order that works. Those that do not wait for each other may run at once.",
        "set -e",
    ]
    for node in nodes:
        waits = "all of the above" if node.name == _ALL else ", ".join(node.needs) or "nothing"
        # Those that write outputs of the teacher that it reads: at the same time, last digits would differ.
        after = ", ".join(name for name in node.after if name not in node.needs)
        about = f"# {node.name} waits for {waits}" + (f", and comes after {after}" if after else "")
        lines += ["", about, _command(node.name, words)]
    return "\n".join(lines) + "\n"


def _makefile(nodes: Sequence[Node], words: Sequence[str], folder: Path) -> str:
    names = " ".join(node.name for node in nodes)
    lines = [
        f"# The steps of {folder}: `make -f FILE -j 2` does two at once.",
        "# A step that is done is asked again, and says so; nothing is done twice.",
        f".PHONY: {names}",
        f".DEFAULT_GOAL := {_ALL}",
    ]
    for node in nodes:
        command = _command(node.name, words).replace("$", "$$")
        waits = " ".join(dict.fromkeys([*node.needs, *node.after]))
        lines += ["", f"{node.name}: {waits}".rstrip(), f"\t{command}"]
    return "\n".join(lines) + "\n"
