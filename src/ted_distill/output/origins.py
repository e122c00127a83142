"""Where a result is from, in words that may be published: names instead of paths, which tell a user's name."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..secrets import without_secrets

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
# Parts of a word that may be paths: those of `key=path`, `[path,path]` and `{a: path}`.
_PARTS = re.compile(r"""([=,;\[\]{}"']\s*|:(?![\\/])\s*)""")


def command() -> str:
    """The current command line without secrets; a path is relative to the current folder, or only a name.

    How many work side by side is left out: it changes no result, and files are the same whatever it was.
    """
    words = without_secrets(_without_workers(sys.argv[1:]))
    name = Path(sys.argv[0]).name
    started = ["python", "-m", __name__.partition(".")[0]] if name == "__main__.py" else [name]
    return shlex.join([*started, *map(without_paths, words)])


def program() -> str:
    """What starts this program in commands for the reader: `ted`, or its path where PATH has none or another."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py" and started.parent.name == __name__.partition(".")[0]:
        return f"{_as_typed(Path(sys.executable))} -m {started.parent.name}"
    return _as_typed(started) if started.name == "ted" else "ted"


def _as_typed(file: Path) -> str:
    """The name of a program on PATH; of any other its path, from the current folder if it is below."""
    # Links stay: the python of a virtual environment is a link to another one.
    whole, found = file.absolute(), shutil.which(file.name)
    if found is not None and Path(found).absolute() == whole:
        return file.name
    return shlex.quote(str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole))


def _without_workers(words: list[str]) -> list[str]:
    before = ["", *words]
    return [
        word
        for word, last in zip(words, before, strict=False)
        if last != "--workers" and not re.match(r"(--)?workers(=|$)", word)
    ]


def without_paths(word: str) -> str:
    """A word of a command line in which no path says more than its name, or its way below the current folder."""
    key, equals, value = word.partition("=")
    if _is_far(word):
        return _near(word)
    if equals and _is_far(value):
        return key + equals + _near(value)
    if "://" in word:
        return word
    return "".join(_near(part) if _is_far(part) else part for part in _PARTS.split(word))


def short_name(model: str | Path) -> str:
    """The name of a model or a file without its folders; a Hub id as it is, without a revision."""
    name = str(model)
    repository, at, _ = name.rpartition("@")
    if at and is_hub_id(repository) and not Path(name).exists():
        return repository
    path = PureWindowsPath(name) if is_of_windows(name) else PurePosixPath(name)
    return name if is_hub_id(name) else path.name or "folder"


def is_hub_id(name: str) -> bool:
    """Whether a name may be that of a model on the Hub, and is none of a folder here."""
    # Here, as the command line shows its help without the library.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that produced the results."""
    names = ("ted-distill", "torch", "transformers", "accelerate", "datasets")
    return {name: _version(name) for name in names} | {"python": platform.python_version()}


_version = cache(version)  # which looks for it on the disk


def is_of_windows(word: str) -> bool:
    """Whether a word is a whole path of Windows; a pair of blocks, as 4:1, is none."""
    return bool(_WINDOWS.match(word))


def _is_far(word: str) -> bool:
    """Whether a word is a path that starts elsewhere than in the current folder, or leaves it."""
    return word.startswith(("/", "~", "../", "file:/")) or is_of_windows(word) or "/../" in word


def _near(path: str) -> str:
    """A path from the current folder, or its last name if it is elsewhere."""
    if is_of_windows(path):
        return PureWindowsPath(path).name
    try:
        return str(Path(path.removeprefix("file:")).expanduser().resolve().relative_to(Path.cwd())) or "."
    except (ValueError, OSError, RuntimeError):
        return PurePosixPath(path).name or "/"
