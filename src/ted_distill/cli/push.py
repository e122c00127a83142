"""`ted push`: a finished checkpoint and its card to the Hub."""

from __future__ import annotations

import sys
from typing import Any


def read_push(words: list[str]) -> tuple[Any, ...] | None:
    """Checkpoint, repository and arguments of an upload; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or not exactly two names before the flags.
    """
    from ..export.upload import PushArguments
    from .names import parse_names

    title = "A finished checkpoint on the Hub, with its card; as the user who logged in with `hf auth login`."
    read = parse_names(
        "push CHECKPOINT OWNER/NAME",
        title,
        (PushArguments,),
        words,
        counts=[2],
        what="a checkpoint and a name on the Hub",
    )
    if read is None:
        return None
    names, parsed = read
    return (*names, *parsed)


def push(checkpoint: str, repo_id: str, arguments: Any) -> None:
    """Upload a checkpoint, or list what would be uploaded."""
    from ..export.upload import push_to_hub

    sys.stdout.write(f"{push_to_hub(checkpoint, repo_id, **vars(arguments))}\n")
