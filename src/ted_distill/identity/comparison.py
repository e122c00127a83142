"""The identities of two stages compared, as they are or as they were written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .content import Identity

_DIGEST = re.compile("[0-9a-f]{64}")
_SHOWN = 60


def plain(content: Identity) -> Identity:
    """An identity as read back from a JSON file: a tuple becomes a list, a number type its name."""
    return json.loads(json.dumps(content, default=str))


def changes(found: Identity, wanted: Identity, *, same_versions: bool = True) -> list[str]:
    """Differences between two identities, each a phrase such as `arguments learning_rate was 1e-3, now 1e-4`.

    Args:
        same_versions: False if other versions of the libraries made `found`. Arguments and config fields that only
            one side has are then ignored, because they differ between versions of transformers.
    """
    return list(_changes(plain(found), plain(wanted), same_versions, ()))


def _changes(found: Any, wanted: Any, same_versions: bool, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        open_ended = not same_versions and path[-1:] in (("arguments",), ("config",))
        for key in dict.fromkeys([*wanted, *found]):
            if open_ended and (key not in found or key not in wanted):
                continue
            yield from _changes(found.get(key), wanted.get(key), same_versions, (*path, key))
    elif found != wanted and not (path[:1] == ("arguments",) and _is_one_number(found, wanted)):
        name = " ".join(path)
        contents = all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in (found, wanted))
        yield f"{name} changed" if contents else f"{name} was {_shown(found)}, now {_shown(wanted)}"


def _is_one_number(one: Any, other: Any) -> bool:
    """Whether two texts are the same number: flags make `2.0` of what is 2 in Python."""
    try:
        return isinstance(one, str) and isinstance(other, str) and float(one) == float(other)
    except ValueError:
        return False


def _shown(value: Any) -> str:
    text = "none" if value is None else "other data" if _DIGEST.fullmatch(str(value)) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
