"""`Dataset.map` with a cache that knows when its content is out of date.

The cache key of `datasets` has the name of the mapped function, not its code, so that a new version of this package
would read what an older one tokenised; and it hashes a tokenizer together with traces of its last call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, Features
from transformers import PreTrainedTokenizerBase

from ... import identity
from ...errors import InputError

PARALLELISM = "TOKENIZERS_PARALLELISM"
"""The variable by which a user decides whether tokenizers use several threads."""
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


def mapped(
    rows: Dataset,
    function: Callable[..., dict[str, list[Any]]],
    *,
    description: str,
    num_proc: int | None = None,
    with_indices: bool = False,
    features: Features | None = None,
    **arguments: Any,
) -> Dataset:
    """The results of `function` on batches of rows, from the cache of `datasets` if they are there.

    The cache key is made of the content of the rows, the source of the function's module, the tokenizer and the other
    arguments.

    Args:
        function: batch of rows, [their numbers,] `arguments` -> columns. At module level, for use in other processes.
        description: of the progress bar.
        arguments: plain JSON values, and a tokenizer.
    """
    what = {
        name: identity.tokenizer_fingerprint(value) if isinstance(value, PreTrainedTokenizerBase) else value
        for name, value in arguments.items()
    }
    source = identity.source_fingerprint(function)
    key = [identity.rows_fingerprint(rows), function.__qualname__, source, what, str(features), with_indices]
    try:
        with one_thread_a_process(bool(num_proc)):
            return rows.map(
                function,
                batched=True,
                with_indices=with_indices,
                remove_columns=rows.column_names,
                fn_kwargs=arguments,
                features=features,
                num_proc=num_proc,
                desc=description,
                new_fingerprint=identity.fingerprint(key)[:32],
            )
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise cache_not_writable(error) from error


@contextmanager
def one_thread_a_process(forks: bool) -> Iterator[None]:
    """Have processes that are forked inside tokenise with one thread each, and only these where the user said nothing.

    The threads of a process are not forked with it, so that tokenizers use one there anyway, and every process warns of
    that, if they are not told. `datasets` tells them too, whatever the user has said.
    """
    if not forks or PARALLELISM in os.environ:
        yield
        return
    os.environ[PARALLELISM] = "false"
    try:
        yield
    finally:
        os.environ.pop(PARALLELISM, None)


def tokens_folder() -> Path:
    """The folder of the cache of `datasets`, where what is read and tokenised is kept."""
    return Path(datasets.config.HF_DATASETS_CACHE)


def cache_not_writable(error: OSError) -> InputError:
    """The refusal to go on without that cache."""
    return InputError(
        f"HF_DATASETS_CACHE: expected a folder for prepared data that can be written, got {tokens_folder()} "
        f"({error.strerror or error}); change its rights or make room, or set HF_DATASETS_CACHE to another folder"
    )
