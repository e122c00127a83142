"""Fingerprints of code that others wrote and a result depends on: tasks and losses of one's own, models with code.

Of a library the version is recorded instead. A task is known by the file that it is in, with the files that this one
imports from; a function, which may be one of many in a script, by its own text and that of whatever it names.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import marshal
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from .content import file_fingerprint, fingerprint
from .statements import CONTENT, assignments, file_of, is_counted, is_theirs, names_used, parsed, resolved

_OWN_CODE = "transformers_modules."
"""How names of modules begin that transformers has made of a model's own code."""
_PACKAGE = __name__.partition(".")[0]
_PLAIN = (str, bytes, bool, int, float, complex, type(None))


# --- files ------------------------------------------------------------------------------------------------------------


def source_fingerprint(function: Callable[..., Any]) -> str:
    """Fingerprint of the source of the module that a function is in, and of its helpers: it changes with the code."""
    module = sys.modules.get(function.__module__)
    if module is not None and (content := _content_of(module)) is not None:
        return content
    try:
        source = inspect.getsource(inspect.getmodule(function) or function).encode()
    except (OSError, TypeError):  # typed into a notebook, say
        source = marshal.dumps(function.__code__)
    return hashlib.sha256(source).hexdigest()


def class_fingerprint(kind: type) -> str | None:
    """Fingerprint of the files that hold a class and those it inherits from; None for those of this package."""
    own = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in (_PACKAGE, "abc", "builtins")]
    return fingerprint(sorted({_code_of(base) for base in own})) if own else None


def _code_of(kind: type) -> str:
    """Fingerprint of the file that holds a class; of what it defines if there is none, as in a notebook."""
    module = sys.modules.get(kind.__module__)
    if module is not None:
        if (content := _content_of(module)) is not None:
            return content
        if (file := file_of(module)) is not None:
            return file_fingerprint(file)
    found = {name: text for name, value in vars(kind).items() if (text := _definition(value)) is not None}
    used = _Followed()
    for value in vars(kind).values():
        used.follow(_unwrapped(value))
    return fingerprint([kind.__qualname__, found, used.texts])


def _content_of(module: ModuleType) -> str | None:
    """Fingerprint of a file of the user's, as it was run, and of the files that it imports from; None for others."""
    if not is_theirs(module):
        return None
    content, file = getattr(module, CONTENT, None), file_of(module)
    if content is None and file is None:
        return None
    own = str(content) if content is not None else file_fingerprint(str(file))
    helpers = _helpers(module)
    return fingerprint([own, helpers]) if helpers else own


def _helpers(module: ModuleType) -> list[str]:
    """Fingerprints of the files that a module imports from, and these in turn, except those of libraries."""
    seen, left = {id(module): module}, [module]
    while left:
        for other in _imported(left.pop()):
            if id(other) not in seen and is_theirs(other):
                seen[id(other)] = other
                left.append(other)
    files = {file for other in seen.values() if other is not module and (file := file_of(other)) is not None}
    return sorted(map(file_fingerprint, files))


def _imported(module: ModuleType) -> Iterator[ModuleType]:
    """Modules that the top of a module's file imports, or names of which it imports; functions may import more."""
    left: list[ast.AST] = [*parsed(module)]
    while left:
        node = left.pop()
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            name = resolved(node, getattr(module, "__package__", None))
            names = [name, *(f"{name}.{alias.name}" for alias in node.names)]
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            left += ast.iter_child_nodes(node)
        yield from (sys.modules[name] for name in names if sys.modules.get(name) is not None)


# --- functions --------------------------------------------------------------------------------------------------------


def function_fingerprint(function: Callable[..., Any]) -> str | None:
    """Fingerprint of what a function does, with the functions, classes, values and modules of its owner that it names.

    Values that may change while it runs, such as a counter, count as they are written, not as they are.

    Returns:
        None for a function of this package or of a library, whose versions are recorded.
    """
    found = _Followed()
    found.follow(function)
    return fingerprint(found.texts) if found.texts else None


class _Followed:
    """The texts of functions and of all that they name; names of modules, which may hold a path, are no part of it."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}
        self._written_down: set[tuple[ModuleType | None, str]] = set()
        self._found: list[str] = []

    @property
    def texts(self) -> list[str]:
        """In an order that depends on nothing else."""
        return sorted(self._found)

    def follow(self, value: Any) -> None:
        """Add what a function, a class, a module or an object of the user's is, unless it is there already."""
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, partial):
            self._values("partial", [*value.args, *value.keywords.items()])
            self.follow(value.func)
        elif isinstance(value, MethodType):
            self.follow(value.__func__)
            self._object(value.__self__)
        elif isinstance(value, ModuleType):
            self._found += [_content_of(value) or ""] if is_theirs(value) else []
        elif isinstance(value, (FunctionType, type)):
            if is_theirs(sys.modules.get(value.__module__)):
                self._found.append(_text_of(value))
                for member in vars(value).values() if isinstance(value, type) else (value,):
                    self._named_by(_unwrapped(member))
        else:
            self._object(value)

    def _object(self, value: Any) -> None:
        """An object that is called: its class, and of its state what is plain."""
        if is_theirs(sys.modules.get(type(value).__module__)):
            self.follow(type(value))
            self._values(type(value).__qualname__, list(getattr(value, "__dict__", {}).items()))

    def _named_by(self, function: Any) -> None:
        if not isinstance(function, FunctionType):
            return
        self._values(f"{function.__qualname__} defaults", [function.__defaults__, function.__kwdefaults__])
        self._values(f"{function.__qualname__} encloses", [cell.cell_contents for cell in function.__closure__ or ()])
        for name in sorted(names_used(function.__code__) & function.__globals__.keys()):
            self._global(name, function.__globals__[name], sys.modules.get(function.__module__))

    def _global(self, name: str, value: Any, module: ModuleType | None, as_written: bool = False) -> None:
        """A value of a module.

        Args:
            as_written: it counts as it is written even if it is plain.
        """
        if _is_plain(value) and not as_written and not is_counted(name, module):
            self._found.append(f"{name} = {value!r}")
            return
        if not isinstance(value, (FunctionType, type, ModuleType)):
            self._assigned_to(name, value, module)
        self.follow(value)

    def _assigned_to(self, name: str, value: Any, module: ModuleType | None) -> None:
        """What is written of a value that may change, with all that this names; the value itself if nothing is.

        What a statement names counts as it is written too: its value may be the time, or the place of the file.
        """
        if (module, name) in self._written_down:
            return
        self._written_down.add((module, name))
        written = list(assignments(name, module, set()))
        if not written:
            self._found.append(f"{name} = {_definition(value) or type(value).__qualname__}")
        for node, owner in written:
            self._found.append(ast.unparse(node))
            named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - {name}
            for other in sorted(one for one in named & vars(owner).keys() if not one.startswith("__")):
                self._global(other, vars(owner)[other], owner, as_written=True)

    def _values(self, of: str, values: list[Any]) -> None:
        """Values that belong to a function: what is plain as it is, functions by what they do, others by their kind."""
        for value in values:
            if isinstance(value, (tuple, list)) and not _is_plain(value):
                self._values(of, list(value))
            elif isinstance(value, dict):
                self._values(of, [part for item in value.items() for part in item])
            else:
                self._found.append(f"{of} {value!r}" if _is_plain(value) else f"{of} {type(value).__qualname__}")
                self.follow(value)


def _unwrapped(member: Any) -> Any:
    """The function of a member of a class."""
    for name in ("__func__", "fget", "func"):
        member = getattr(member, name, member)
    return member


def _is_plain(value: Any) -> bool:
    """Whether a value cannot change, and is written alike in every process."""
    return isinstance(value, _PLAIN) or (isinstance(value, tuple) and all(map(_is_plain, value)))


def _text_of(value: Any) -> str:
    """The text of a function or class without comments, docstrings and layout; what it does where there is no text."""
    try:
        # The text of a function's code is its own, also where it wraps another one.
        source = inspect.getsource(value.__code__ if isinstance(value, FunctionType) else value)
        tree = ast.parse(textwrap.dedent(source))
    except (OSError, TypeError, SyntaxError):  # typed where no text is kept, or a part of a line
        return str(_definition(value)) if isinstance(value, FunctionType) else value.__qualname__
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) and isinstance(body, list):
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _definition(value: Any) -> str | None:
    """What a function, a property or a plain value in a class says; None for anything else."""
    for name in ("__func__", "fget", "func", "__wrapped__"):
        value = getattr(value, name, value)
    if code := getattr(value, "__code__", None):
        return _written([code, value.__defaults__, value.__kwdefaults__])
    return _written(value) if isinstance(value, (str, bool, int, float, tuple, list, dict, set, frozenset)) else None


def _written(value: Any) -> str:
    """A value, or what a function does without the place that it was written at, as the same text in every process."""
    if isinstance(value, CodeType):
        return _written([value.co_code.hex(), value.co_consts, value.co_names, value.co_varnames])
    if isinstance(value, dict):
        return f"dict {_written(list(value.items()))}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_written, value))}]"
    # Sets have another order in every process.
    if isinstance(value, (set, frozenset)):
        return f"set {sorted(map(_written, value))}"
    return repr(value) if _is_plain(value) else type(value).__qualname__


# --- models -----------------------------------------------------------------------------------------------------------


def own_code_fingerprint(*classes: type) -> str | None:
    """Fingerprint of the code that comes with a model or is the user's own: of the modules of these classes, and of
    what they import.

    Returns:
        None for classes of transformers and other libraries, whose versions are recorded.
    """
    bases = {base for one in classes for base in one.__mro__}
    with_model = {base.__module__ for base in bases if base.__module__.startswith(_OWN_CODE)}
    files = {str(sys.modules[name].__file__) for name in with_model}
    read = files.union(*(get_relative_import_files(file) for file in files))
    found = [file_fingerprint(file) for file in read if Path(file).is_file()]
    registered = {base for base in bases if base.__module__ not in with_model}
    found += {_code_of(base) for base in registered if is_theirs(sys.modules.get(base.__module__))}
    return fingerprint(sorted(found)) if found else None
