"""`ted push`: a finished checkpoint and its card to the Hub."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import InputError


def read_push(words: list[str]) -> tuple[Any, ...] | None:
    """Checkpoint, repository and arguments of an upload; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or not exactly two names before the flags.
    """
    from ..export.upload import PushArguments
    from .flags import parse_flags

    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names, flags = words[:count], words[count:]
    title = "A finished checkpoint on the Hub, with its card; as the user who logged in with `hf auth login`."
    parsed = parse_flags("push CHECKPOINT REPO_ID", title, (PushArguments,), flags if words else ["--help"])
    if parsed is None:
        return None
    if len(names) != 2:
        given = " ".join(names) or "nothing"
        raise InputError(
            f"expected a checkpoint and a name on the Hub before the flags, got {given}; write CHECKPOINT OWNER/NAME"
        )
    return (*names, *parsed)


def push(checkpoint: str, repo_id: str, arguments: Any) -> None:
    """Upload a checkpoint, or list what would be uploaded."""
    from ..export.upload import push_to_hub

    sys.stdout.write(f"{push_to_hub(checkpoint, repo_id, **vars(arguments))}\n")
