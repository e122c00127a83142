"""A tokenizer with a part of its tokens: the content of its `tokenizer.json`, edited.

Texts whose tokens are all kept are cut as before. WordPiece takes the longest piece, and Unigram the best way through a
word: neither changes if pieces are taken away that were not chosen. BPE needs the tokens on the way to a token as well,
and keeps the order of its merges.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from ...errors import InputError, reason_of

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_KINDS = "WordPiece", "WordLevel", "BPE", "Unigram"

Content = dict[str, Any]
"""What a `tokenizer.json` holds."""


@dataclass(frozen=True)
class Trimmed:
    """A tokenizer with fewer tokens.

    Attributes:
        content: of its `tokenizer.json`.
        kept: for each new number of a token, its former one. There may be further numbers, after those of all tokens,
            of embeddings that have no token.
        used: how many of them texts are cut into; the others are single characters or bytes, special, or needed by
            others.
    """

    content: Content
    kept: list[int]
    used: int

    @property
    def numbers(self) -> dict[int, int]:
        """Former number -> new one."""
        return {before: after for after, before in enumerate(self.kept)}


def vocabulary(content: Content) -> dict[str, int]:
    """The tokens of a tokenizer's model, without those added to it, and their numbers.

    Raises:
        InputError: a kind of model whose tokens cannot be told apart.
    """
    model = content["model"]
    if model["type"] not in _KINDS:
        raise InputError(
            f"tokenizer: expected one of {', '.join(_KINDS)}, got {model['type']}, which cannot be trimmed; leave it "
            "whole"
        )
    if model["type"] == "Unigram":
        return {piece: number for number, (piece, _) in enumerate(model["vocab"])}
    return dict(model["vocab"])


def trim_content(content: Content, used: Iterable[int], further: Iterable[int] = ()) -> Trimmed:
    """Take all tokens away that are not needed.

    Args:
        content: of the `tokenizer.json`; it is not changed.
        used: numbers of the tokens that texts are cut into.
        further: numbers that are kept in any case, whether they have a token or not, such as those a config names.

    Raises:
        InputError: a kind of tokenizer that cannot be trimmed.
    """
    content = copy.deepcopy(content)
    known = vocabulary(content)
    named = {*further, *(added["id"] for added in content["added_tokens"])}
    _change_processor(content.get("post_processor"), collecting(named))
    used = {*used}
    chosen = used | named
    tokens = {token for token, number in known.items() if number in chosen} | _always_kept(content, known)
    if content["model"]["type"] == "BPE":
        tokens = _with_ways(content["model"], tokens)
    order = sorted((known[token], token) for token in tokens)
    # A tokenizer numbers the tokens added to it after those of its model, without gaps.
    in_model = {number for number, _ in order}
    added = sorted({added["id"] for added in content["added_tokens"]} - in_model)
    kept = [number for number, _ in order] + added
    kept += sorted(named - {*kept})
    trimmed = Trimmed(content, kept, len(used & {*kept}))
    _rewrite(content, [token for _, token in order], trimmed.numbers)
    return trimmed


def as_tokenizer(content: Content) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises `InputError` where the library does not take it."""
    try:
        return Tokenizer.from_str(json.dumps(content))
    # Errors of the library have no common class.
    except Exception as error:
        raise InputError(
            f"tokenizer: expected a tokenizer.json that can be read again, got an error ({reason_of(error)}); this "
            "tokenizer cannot be trimmed"
        ) from error


def collecting(found: set[int]) -> Callable[[int], int]:
    """A change of numbers that changes nothing and remembers them."""

    def change(number: int) -> int:
        found.add(number)
        return number

    return change


# --- which tokens are kept ----------------------------------------------------------------------------------------


def _always_kept(content: Content, known: dict[str, int]) -> set[str]:
    """Single characters and bytes, the unknown token, and the piece by whose score Unigram rates what is unknown."""
    model = content["model"]
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    kept = {token for token in known if _is_single(token, prefix, suffix)}
    if model.get("unk_token") in known:
        kept.add(model["unk_token"])
    if model["type"] == "Unigram":
        pieces = model["vocab"]
        kept.add(min(pieces, key=lambda piece: piece[1])[0])
        if model.get("unk_id") is not None:
            kept.add(pieces[model["unk_id"]][0])
    return kept


def _is_single(token: str, prefix: str, suffix: str) -> bool:
    if _BYTE.fullmatch(token):
        return True
    return any(len(bare) == 1 for bare in (token, token.removeprefix(prefix), token.removesuffix(suffix)))


def _with_ways(model: Content, tokens: set[str]) -> set[str]:
    """The tokens of a BPE model together with those that they, and these in turn, can be merged from."""
    ways: dict[str, list[str]] = {}
    for first, second in map(_pair, model["merges"]):
        ways.setdefault(_merged(model, first, second), []).extend((first, second))
    found, waiting = set(tokens), list(tokens)
    while waiting:
        for part in ways.get(waiting.pop(), ()):
            if part not in found:
                found.add(part)
                waiting.append(part)
    return found


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """The two tokens of a merge; older files have them in one text."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _merged(model: Content, first: str, second: str) -> str:
    return first + second.removeprefix(model.get("continuing_subword_prefix") or "")


def pieces_inside(tokenizer: Tokenizer, texts: Iterable[str]) -> set[int]:
    """Numbers of all tokens that occur inside the words of texts: with these, the texts can only be cut as before."""
    known = tokenizer.get_vocab(with_added_tokens=False)
    longest = max(map(len, known), default=0)
    model = tokenizer.model
    prefix = getattr(model, "continuing_subword_prefix", None) or ""
    suffix = getattr(model, "end_of_word_suffix", None) or ""
    found = set()
    for text in texts:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        words = (
            [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
            if tokenizer.pre_tokenizer
            else [normal]
        )
        for word in {*words}:
            parts = {word[start:end] for start in range(len(word)) for end in range(start + 1, start + 1 + longest)}
            forms = {form for part in parts for form in (part, prefix + part, part + suffix)}
            found |= {known[form] for form in forms if form in known}
    return found


# --- the file -----------------------------------------------------------------------------------------------------


def _rewrite(content: Content, tokens: list[str], numbers: dict[int, int]) -> None:
    """Reduce the content to these tokens of its model, in their new order."""
    model, kept = content["model"], {*tokens}
    if model["type"] == "Unigram":
        if model.get("unk_id") is not None:
            model["unk_id"] = numbers[model["unk_id"]]
        known = dict(enumerate(model["vocab"]))
        model["vocab"] = [known[before] for before in list(numbers)[: len(tokens)]]
    else:
        model["vocab"] = {token: number for number, token in enumerate(tokens)}
    if model["type"] == "BPE":
        model["merges"] = [list(pair) for pair in map(_pair, model["merges"]) if {*pair, _merged(model, *pair)} <= kept]
    for added in content["added_tokens"]:
        added["id"] = numbers[added["id"]]
    content["added_tokens"].sort(key=lambda added: added["id"])
    _change_processor(content.get("post_processor"), numbers.__getitem__)
    # Those of somebody's last call.
    content["truncation"] = content["padding"] = None


def _change_processor(part: Content | None, change: Callable[[int], int]) -> None:
    """Replace the numbers of special tokens that a post-processor puts around texts."""
    if part is None:
        return
    for inner in part.get("processors", ()):
        _change_processor(inner, change)
    for token in (part.get("special_tokens") or {}).values():
        token["ids"] = [change(number) for number in token["ids"]]
    for name in {"cls", "sep"} & part.keys():
        token, number = part[name]
        part[name] = [token, change(number)]
