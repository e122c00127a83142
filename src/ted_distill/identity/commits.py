"""Which commit a name on the Hub stands for: each is asked for once, and all that is read of it is of that commit.

A branch may move on while a run is at work. Its stages, and even the config and the weights of one model, would then be
of different models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import datasets
from huggingface_hub import HfApi
from transformers.utils.hub import cached_file, extract_commit_hash

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_CURRENT: ContextVar[dict[str, str] | None] = ContextVar("commits", default=None)
_PATIENCE = 10.0
"""Seconds for an answer of the Hub."""


@contextmanager
def pinning() -> Iterator[None]:
    """Inside, a name means the same commit whenever it is read; the outermost call decides how long."""
    if _CURRENT.get() is not None:
        yield
        return
    token = _CURRENT.set({})
    try:
        yield
    finally:
        _CURRENT.reset(token)


def commits() -> dict[str, str]:
    """What names have meant so far: `owner/name@revision`, of data `datasets/owner/name@revision` -> commit."""
    return {name: commit for name, commit in (_CURRENT.get() or {}).items() if commit}


def pin(known: Mapping[str, str]) -> None:
    """Let names mean these commits from now on, as an earlier process of the same run has found them."""
    current = _CURRENT.get()
    if current is not None:
        current |= {name: commit for name, commit in known.items() if is_commit(commit)}


def is_commit(revision: str | None) -> bool:
    """Whether a revision is the whole hash of a commit, which always means the same."""
    return bool(_COMMIT.fullmatch(revision or ""))


def split_revision(name: str, revision: str = "main") -> tuple[str, str]:
    """`owner/name@revision` -> its two parts; of any other name and of a folder, the revision that is given."""
    repository, _, own = name.rpartition("@")
    of_hub = _REPOSITORY.fullmatch(repository) and own and not Path(name).exists() and not Path(repository).exists()
    return (repository, own) if of_hub else (name, revision)


def may_be_on_hub(name: str) -> bool:
    """Whether a name is written like those of the Hub: `name` or `owner/name`, perhaps with `@` and a revision."""
    return _REPOSITORY.fullmatch(name.partition("@")[0]) is not None


def model_commit(name: str, revision: str) -> str:
    """The commit of a model on the Hub; of a folder, or where the Hub does not say, the revision.

    Raises:
        OSError: as transformers raises it, where there is no such model or no answer.
    """
    current, key = _CURRENT.get(), f"{name}@{revision}"
    if current is not None and key in current:
        return current[key]
    if is_commit(revision) or Path(name).exists():
        return revision
    # Without a connection this is what the cache has.
    config = cached_file(name, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    return _keep(key, extract_commit_hash(config, None)) or revision


def known_commit(name: str, revision: str = "main") -> str | None:
    """The commit that the name of a model has meant so far; None if it was not asked for, or is a folder's."""
    if Path(name).exists():
        return None
    name, revision = split_revision(name, revision)
    return revision if is_commit(revision) else commits().get(f"{name}@{revision}")


def at_commit(name: str, commit: str | None) -> str:
    """The name of a model on the Hub with the commit that it was read at; another name as it is."""
    return name if commit is None else f"{split_revision(name)[0]}@{commit}"


def file_of_model(name: str, file: str, revision: str = "main") -> Path | None:
    """A file of a model on the Hub, at the commit that is known; None for a folder, and where there is no such file."""
    repository, own = split_revision(name, revision)
    if Path(name).exists():
        return None
    current, key = _CURRENT.get(), f"{name}@{revision}/{file}"
    if current is not None and key in current:
        return None
    # Whatever the Hub and its library raise, the model itself has been loaded, or is refused with its own message.
    try:
        commit = model_commit(repository, own)
        found = cached_file(repository, file, revision=commit, _raise_exceptions_for_missing_entries=False)
    except Exception:
        found = None
    if found is None and current is not None:
        current[key] = ""  # it is not waited for again
    return None if found is None else Path(found)


def data_commit(name: str, revision: str | None) -> str | None:
    """The commit of a data set on the Hub; None if the Hub does not say."""
    current, key = _CURRENT.get(), f"datasets/{name}@{revision or 'main'}"
    if current is not None and key in current:
        return current[key] or None
    if is_commit(revision):
        return revision
    if datasets.config.HF_HUB_OFFLINE:
        return None
    # `datasets` then reads its cache, or says what is wrong.
    try:
        return _keep(key, HfApi().dataset_info(name, revision=revision, timeout=_PATIENCE).sha)
    except Exception:
        if current is not None:
            current[key] = ""  # it is not waited for again
        return None


def _keep(key: str, commit: str | None) -> str | None:
    current = _CURRENT.get()
    if commit and current is not None:
        current[key] = commit
    return commit
