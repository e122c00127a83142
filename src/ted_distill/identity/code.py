"""Fingerprints of code that others wrote and a result depends on: tasks and losses of one's own, models with code.

Of a library the version is recorded instead. Code in a file is known by the file, and so are the files that it imports
from, unless they belong to a library; code without one, as in a notebook, by what it does.
"""

from __future__ import annotations

import hashlib
import inspect
import marshal
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from .content import file_fingerprint, fingerprint

CONTENT = "__content__"
"""Attribute of a module that was run from a file of the user's: the fingerprint of what was run."""
_OWN_CODE = "transformers_modules."
"""How names of modules begin that transformers has made of a model's own code."""
_PACKAGE = __name__.partition(".")[0]
_LIBRARIES = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
_SITE = {"site-packages", "dist-packages"}
"""Folders of libraries."""


def source_fingerprint(function: Callable[..., Any]) -> str:
    """Fingerprint of the source of the module that a function is in, and of its helpers: it changes with the code."""
    module = sys.modules.get(function.__module__)
    if (content := _content_of(module)) is not None:
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


def function_fingerprint(function: Callable[..., Any]) -> str | None:
    """Fingerprint of what a function does, with the functions and values of its owner that it names.

    Returns:
        None for a function of this package or of a library, whose versions are recorded.
    """
    found: dict[str, str] = {}
    _follow(function, found)
    return fingerprint(found) if found else None


def _follow(value: Any, found: dict[str, str]) -> None:
    """Add what a function does, and all that it names, unless it is a library's or there already."""
    value = value.func if isinstance(value, partial) else value
    name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', None)}"
    if not isinstance(value, FunctionType) or name in found or not _is_theirs(sys.modules.get(value.__module__)):
        return
    found[name] = str(_definition(value))
    inside = [cell.cell_contents for cell in value.__closure__ or ()]
    named = {key: value.__globals__[key] for key in _names(value.__code__) if key in value.__globals__}
    for key, used in [*enumerate(inside), *named.items()]:
        plain = _definition(used) if not callable(used) else None
        if plain is not None:
            found[f"{name} {key}"] = plain
        _follow(used, found)


def _names(code: CodeType) -> set[str]:
    """Names that a function uses, and the functions within it."""
    within = [_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return {*code.co_names}.union(*within)


def _content_of(module: ModuleType | None) -> str | None:
    """Fingerprint of what was run of a file of the user's, and of the files that it imports from; None for others."""
    content = getattr(module, CONTENT, None)
    if module is None or content is None:
        return None
    helpers = _helpers(module)
    return str(content) if not helpers else fingerprint([content, helpers])


def _code_of(kind: type) -> str:
    """Fingerprint of the file that holds a class; of what it defines if there is none, as in a notebook."""
    module = sys.modules.get(kind.__module__)
    if (content := _content_of(module)) is not None:
        return content
    file = getattr(module, "__file__", None)
    if module is not None and file and Path(file).is_file():
        helpers = _helpers(module) if _is_theirs(module) else []
        return fingerprint([file_fingerprint(file), helpers]) if helpers else file_fingerprint(file)
    found = {name: _definition(value) for name, value in vars(kind).items()}
    return fingerprint([kind.__qualname__, {name: text for name, text in found.items() if text is not None}])


def _helpers(module: ModuleType) -> list[str]:
    """Fingerprints of the files that a module has something of, and these of others, but for those of libraries."""
    seen, left = {module.__name__: module}, [module]
    while left:
        for value in list(vars(left.pop()).values()):
            other = value if isinstance(value, ModuleType) else sys.modules.get(str(getattr(value, "__module__", "")))
            if other is not None and other.__name__ not in seen and _is_theirs(other):
                seen[other.__name__] = other
                left.append(other)
    files = {str(other.__file__) for name, other in seen.items() if name != module.__name__ and other.__file__}
    return sorted(file_fingerprint(file) for file in files if Path(file).is_file())


def _is_theirs(module: ModuleType | None) -> bool:
    """Whether a module is the user's own: in a notebook, or in a file that is no library's."""
    if module is None or module.__name__.partition(".")[0] == _PACKAGE:
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__" or CONTENT in vars(module)
    place = Path(file).resolve()
    return not any(library in place.parents for library in _LIBRARIES) and _SITE.isdisjoint(place.parts)


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
    return f"set {sorted(map(_written, value))}" if isinstance(value, (set, frozenset)) else repr(value)


def own_code_fingerprint(*classes: type) -> str | None:
    """Fingerprint of the code that comes with a model: of the modules of these classes and of what these import.

    Returns:
        None for classes of transformers and other libraries, whose versions are recorded.
    """
    names = {base.__module__ for one in classes for base in one.__mro__ if base.__module__.startswith(_OWN_CODE)}
    files = {str(sys.modules[name].__file__) for name in names}
    if not files:
        return None
    read = files.union(*(get_relative_import_files(file) for file in files))
    return fingerprint(sorted(file_fingerprint(file) for file in read if Path(file).is_file()))
