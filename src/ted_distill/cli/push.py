"""`ted push`: a finished checkpoint and its card to the Hub."""

from __future__ import annotations

import sys
from typing import Any


def push_kinds() -> tuple[type, ...]:
    """The arguments of `ted push`."""
    from ..export.upload import PushArguments

    return (PushArguments,)


def push(names: list[str], arguments: Any) -> None:
    """Upload a checkpoint, or list what would be uploaded."""
    from ..export.upload import push_to_hub

    checkpoint, repo_id = names
    sys.stdout.write(f"{push_to_hub(checkpoint, repo_id, **vars(arguments))}\n")
