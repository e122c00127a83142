"""The house keeps its plan: imports point one way, there is no circle, and the walk in docs/architecture.md is true."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import ted_distill
from step_walk import walk_of

PACKAGE = Path(ted_distill.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"

GROUND = {"errors", "wording", "output", "identity", "ranges", "secrets", "progress", "entries"}
MAY_IMPORT = {
    "errors": set(),
    "wording": {"errors"},
    "identity": set(),
    "ranges": {"errors"},
    "entries": {"errors"},
    "secrets": set(),
    "output": {"errors", "wording", "identity", "secrets"},
    "progress": {"wording", "output", "secrets"},
    "method": {"errors", "wording", "identity", "entries"},
    "tasks": {*GROUND, "method"},
    "fast": {*GROUND, "method"},
    "models": {*GROUND, "method", "tasks", "fast"},
    "training": {*GROUND, "method", "tasks", "fast"},
    "stages": {*GROUND, "method", "tasks", "fast", "models", "training"},
    "runs": {*GROUND, "method", "tasks", "fast", "models", "training", "stages"},
    "published": {*GROUND, "method", "tasks"},
    "report": {*GROUND, "method", "tasks", "fast", "models", "training", "stages", "runs"},
    "export": {*GROUND, "method", "tasks", "fast", "models", "training", "stages", "runs"},
    "benching": {*GROUND, "method", "tasks", "fast", "models", "training", "stages", "runs", "report", "export"},
    "demo": {*GROUND, "method", "tasks", "fast", "models", "training", "stages", "runs", "report"},
    "cli": {
        *GROUND,
        "method",
        "tasks",
        "fast",
        "models",
        "training",
        "stages",
        "runs",
        "published",
        "report",
        "export",
        "benching",
        "demo",
    },
    "__main__": {"cli"},
}
"""What each room at the top of the package may import of the others."""


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file; the package's own `__init__` only hands names on."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = list(file.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = file
    return found


def imports(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that a module imports, also inside functions."""
    here = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            absolute = [alias.name.split(".") for alias in node.names if alias.name.startswith("ted_distill.")]
            yield from (".".join(parts[1:]) for parts in absolute)
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = [*here[: len(here) - node.level + 1], *(node.module or "").split(".")]
        elif (node.module or "").split(".")[0] == "ted_distill":
            base = (node.module or "").split(".")[1:]
        else:
            continue
        base = [part for part in base if part]
        for alias in node.names:
            target = ".".join([*base, alias.name])
            yield target if target in known else ".".join(base)


GRAPH = {name: {*imports(name, file, modules())} - {name} for name, file in modules().items()}


def test_imports_point_one_way() -> None:
    wrong = sorted(
        f"{name} imports {target}"
        for name, targets in GRAPH.items()
        for target in targets
        if target.split(".")[0] not in {name.split(".")[0], *MAY_IMPORT[name.split(".")[0]]}
    )
    assert not wrong
    assert {name.split(".")[0] for name in GRAPH} == set(MAY_IMPORT)


def shown_on_the_page() -> dict[str, set[str]]:
    """What each room may import, as the page has it: `A, B  <-  C, D`; `nothing`; or `all above`, maybe `but` some."""
    block = PAGE.read_text(encoding="utf-8").partition("## What may import what")[2].split("```")[1]
    shown: dict[str, set[str]] = {}
    for line in block.splitlines()[1:]:
        rooms, given = (part.strip() for part in line.split("<-"))
        kept, _, left_out = given.partition(" but ")
        named = {*shown} if kept == "all above" else {*kept.split(", ")} - {"nothing"}
        shown |= dict.fromkeys(rooms.split(", "), named - {*left_out.split(", ")})
    return shown


def test_the_page_shows_what_each_room_may_import() -> None:
    assert shown_on_the_page() == MAY_IMPORT


def test_there_is_no_circle() -> None:
    order = list(TopologicalSorter(GRAPH).static_order())  # raises CycleError
    assert len(order) >= len(GRAPH)


def test_this_test_sees_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "losses.py"
    file.write_text("def late():\n    from ..stages import distill\n    from ted_distill.runs.run import run\n")
    known = {"stages": file, "stages.distill": file, "runs.run": file}
    assert [*imports("method.losses", file, known)] == ["stages.distill", "runs.run"]


def walk() -> list[tuple[str, str]]:
    """(file, function) of each line of the walk, in the order of the page."""
    page = PAGE.read_text(encoding="utf-8").partition("## The way of one batch")[2]
    return re.findall(r"^ *\d+\. `([\w/]+\.py)` `([\w.]+)`", page, flags=re.MULTILINE)


def test_the_walk_of_the_page_names_functions_that_exist_in_at_most_five_files() -> None:
    assert len(walk()) >= 8
    assert len({file for file, _ in walk()}) <= 5
    for file, name in walk():
        found = import_module(f"ted_distill.{file.removesuffix('.py').replace('/', '.')}")
        for part in name.split("."):
            found = getattr(found, part)


@pytest.mark.filterwarnings("ignore")
def test_the_walk_of_the_page_is_the_way_a_step_takes() -> None:
    seen = list(walk_of("ted", "bert", cache=False).seen)
    places = [seen.index(step) for step in walk()]
    assert places == sorted(places)
    # Nothing of the method that runs between the first line and the last is in a file the page does not name.
    between = {file for file, _ in seen[places[0] : places[-1] + 1]}
    own = {file for file in between if file.startswith(("method/", "stages/", "tasks/"))} - {"tasks/base.py"}
    assert own == {file for file, _ in walk()}


def test_every_room_is_named_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for room in MAY_IMPORT:
        assert f"`{room}" in page, room
