"""What the files of a user, and the cells of a notebook, say of their names, outside of functions."""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.util import resolve_name
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

CONTENT = "__content__"
"""Attribute of a module that was run from a file of the user's: the fingerprint of what was run."""
_PACKAGE = __name__.partition(".")[0]
_RECORDED = {_PACKAGE, "torch", "transformers", "accelerate", "datasets"}
"""Packages whose versions are recorded, wherever they are installed."""
_LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_SITE = {"site-packages", "dist-packages"}
"""Folders of libraries."""
_CELLS = "_ih"
"""Where IPython keeps the texts of the cells that were run."""


def is_theirs(module: ModuleType | None) -> bool:
    """Whether a module is the user's own: in a notebook, or in a file that is no library's."""
    if module is None or module.__name__.partition(".")[0] in _RECORDED:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__" or CONTENT in vars(module)
    place = Path(file).resolve()
    return not any(library in place.parents for library in _LIBRARIES) and _SITE.isdisjoint(place.parts)


def file_of(module: ModuleType | None) -> Path | None:
    """The file of a module; None if it has none, or no more."""
    file = getattr(module, "__file__", None)
    return Path(file) if file and Path(file).is_file() else None


def parsed(module: ModuleType) -> list[ast.Module]:
    """The syntax tree of a module's file, or those of the cells of a notebook, the last first."""
    file = file_of(module)
    texts = reversed(getattr(module, _CELLS, [])) if file is None else [file.read_bytes()]
    return [tree for text in texts if (tree := _tree(text)) is not None]


@lru_cache(maxsize=64)
def _tree(text: str | bytes) -> ast.Module | None:
    """The syntax tree of a text, which is asked for once for each name in it; None if it has none."""
    with suppress(SyntaxError, ValueError):
        return ast.parse(text)
    return None


def assignments(
    name: str, module: ModuleType | None, seen: set[tuple[str, str]]
) -> Iterator[tuple[ast.AST, ModuleType]]:
    """What a module's file does to a name outside of functions, or that of another module which it imports it from.

    Args:
        seen: modules and names that were looked at already, as modules may import each other.
    """
    if module is None or (module.__name__, name) in seen:
        return
    seen.add((module.__name__, name))
    for tree in parsed(module):
        found = list(_assignments_in(tree, name, module, seen))
        yield from found
        if found:  # a cell that is run again is written again
            return


def _assignments_in(
    tree: ast.AST, name: str, module: ModuleType, seen: set[tuple[str, str]]
) -> Iterator[tuple[ast.AST, ModuleType]]:
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.ImportFrom):
            source = sys.modules.get(resolved(node, getattr(module, "__package__", None)))
            for alias in node.names if is_theirs(source) else ():
                if alias.name == "*" or name == (alias.asname or alias.name):
                    yield from assignments(name if alias.name == "*" else alias.name, source, seen)
        elif _changes(node, name) or _calls_what_changes(node, name, module):
            yield node, module
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            left += ast.iter_child_nodes(node)


def _changes(node: ast.AST, name: str) -> bool:
    """Whether a statement assigns to a name, or to a part of it, or calls a method of it for its effect."""
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        changed: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target]
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        changed = [node.value.func]
    else:
        return False
    return any(isinstance(part, ast.Name) and part.id == name for one in changed for part in ast.walk(one))


def _calls_what_changes(node: ast.AST, name: str, module: ModuleType) -> bool:
    """Whether a statement calls a function of the same module for its effect, which is on a name."""
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    function = vars(module).get(called.id) if isinstance(called, ast.Name) else None
    if not isinstance(function, FunctionType) or name not in names_used(function.__code__):
        return False
    with suppress(OSError, TypeError, SyntaxError):
        text = ast.parse(textwrap.dedent(inspect.getsource(function.__code__)))
        return any(_changes(part, name) for part in ast.walk(text))
    return False


def is_counted(name: str, module: ModuleType | None) -> bool:
    """Whether a function of a module sets a global name: its value then tells how often that was called."""
    parts = (part for tree in parsed(module) for part in ast.walk(tree)) if module is not None else ()
    return any(isinstance(part, ast.Global) and name in part.names for part in parts)


def resolved(node: ast.ImportFrom, package: str | None) -> str:
    """The whole name of the module that a statement in a package imports from."""
    try:
        return resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:  # a relative import of a file that is in no package
        return node.module or ""


def names_used(code: CodeType) -> set[str]:
    """Names that a function uses, and the functions within it."""
    within = [names_used(const) for const in code.co_consts if isinstance(const, CodeType)]
    return {*code.co_names}.union(*within)
