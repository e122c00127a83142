"""Values that must not reach a file: those of token, key and password arguments, wherever arguments are recorded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

HIDDEN = "***"
"""Takes the place of a secret."""

_NAME = re.compile(
    r"(.*[-_.])?(api_?key|access_?key|key|token|password|passwd|passphrase|secret|credentials?)", re.IGNORECASE
)
_NONE = {"filter_token"}
"""Arguments of ours whose names end like those of secrets."""
# Tokens of the Hub and of trackers, and passwords in addresses, whatever the argument that holds them. No name of a
# file such as sk_snk_treebank_train: tokens have digits or capitals, and no parts.
_VALUE = re.compile(
    r"\b(?:api_org|ghp|github_pat)[_-]\w{16,}|\b(?:hf|sk)[_-](?:live_|test_|proj-)?(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{16,}"
    r"|(?<=://)[^/@\s]+:[^/@\s]+(?=@)"
)

_WORDS = r"(?:api_?key|access_?key|token|password|passwd|passphrase|secret|credentials?)"
# A value right behind `hub_token=` or `--hub_token `, quoted or not.
_GIVEN = re.compile(rf"(\b[\w.-]*{_WORDS}=|--[\w.-]*{_WORDS}\s+)('[^']*'|\"[^\"]*\"|[^\s,;]+)", re.IGNORECASE)


def without_secrets(words: Iterable[str]) -> list[str]:
    """Words of a command line with `***` for secrets, as in `--hub_token X`, `hub_token=X`, `training.hub_token=X`."""
    found: list[str] = []
    hide = False
    for word in words:
        name, equals, _ = word.partition("=")
        is_secret = _is_secret(name.lstrip("-"))
        if is_secret and equals:
            found.append(f"{name}={HIDDEN}")
        elif hide and not word.startswith("--"):
            found.append(HIDDEN)
            continue  # a value given by mistake as several words is a secret to the last
        else:
            found.append(_VALUE.sub(HIDDEN, word))
        hide = is_secret and word.startswith("--")
    return found


def content_without_secrets(content: Any) -> Any:
    """A recipe's content without its secret keys, for a file that is read again."""
    if isinstance(content, dict):
        return {
            key: content_without_secrets(value)
            for key, value in content.items()
            if isinstance(value, dict) or not (isinstance(key, str) and _is_secret(key))
        }
    if isinstance(content, list):
        return [content_without_secrets(value) for value in content]
    return _VALUE.sub(HIDDEN, content) if isinstance(content, str) else content


def text_without_secrets(text: str) -> str:
    """A message with `***` for tokens, passwords in addresses, and values of secret flags and keys that it quotes."""

    def hidden(given: re.Match[str]) -> str:
        return f"{given[1]}{HIDDEN}" if _is_secret(given[1].strip("-= \t")) else given[0]

    return _GIVEN.sub(hidden, _VALUE.sub(HIDDEN, text))


def _is_secret(name: str) -> bool:
    plain = name.rpartition(".")[2].lower().replace("-", "_")
    return _NAME.fullmatch(name) is not None and plain not in _NONE
