"""Tasks in files of users: `task: ordinal.py:OrdinalClassification` names a file and a class in it."""

from __future__ import annotations

import hashlib
import sys
from inspect import isabstract
from pathlib import Path
from types import ModuleType

from ..errors import InputError, nearest, reason_of, shown
from ..identity import CONTENT, fingerprint
from .base import Task


def own_task(file: str, name: str) -> type[Task]:
    """The class of a task in a file, which is run once for each content that it has.

    Raises:
        InputError: no such file, a file that does not run, or no such subclass of `Task` in it.
    """
    module = _module(Path(file).expanduser())
    found = {key: value for key, value in vars(module).items() if _is_task(value)}
    own = [key for key, value in found.items() if value.__module__ == module.__name__]
    if name not in found:
        raise InputError(
            f"task: expected a subclass of `Task` in {file}, got {shown(name)}{nearest(name, own)}; "
            f"{'it has ' + ', '.join(own) if own else 'docs/add-a-task.md has one in 40 lines'}"
        )
    if isabstract(task := found[name]):
        missing = ", ".join(sorted(task.__abstractmethods__))
        raise InputError(
            f"task: expected {name} in {file} to define all that a task needs, got none of {missing}; define them"
        )
    return task


def _is_task(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Task)


def _module(file: Path) -> ModuleType:
    """The module of a file, run when it is first asked for with this content."""
    if not file.is_file():
        raise InputError(f"task: expected FILE.py:CLASS with a file that is there, got {file}, which is not; check it")
    source = file.read_bytes()
    content = hashlib.sha256(source).hexdigest()
    # Rows that several processes read are sent to them with the name of the module.
    known_as = f"ted_distill_own_{file.stem}_{fingerprint([str(file.resolve()), content])[:8]}"
    if known_as not in sys.modules:
        module = sys.modules[known_as] = ModuleType(known_as)
        vars(module).update({"__file__": str(file.resolve()), CONTENT: content})
        try:
            exec(compile(source, str(file), "exec", dont_inherit=True), vars(module))  # the user asked for it, by name
        except BaseException as error:  # it is the code of others
            del sys.modules[known_as]
            if not isinstance(error, (Exception, SystemExit)):
                raise
            raise InputError(f"task: expected {file} to run, got an error ({reason_of(error)}); mend it") from error
    return sys.modules[known_as]
