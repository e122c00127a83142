"""Tags of words that are parts of entities, in every notation, and the data sets of them that are known by name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

OUTSIDE = "O"
_LETTERS = frozenset("BIMESLUW")
_BEGIN = frozenset("BISUW")
"""Those that an entity can begin with."""
_ONE_KIND = "entity"
_PART = re.compile(r"([BIMESLUW])([-_])(.+)")
_OTHER_NOTATION = re.compile(r"[BIMESLUW][-_:/.|+](.+)|(.+)[-_:/.|+][BIMESLUW]", re.IGNORECASE)
_LETTER_AND_KIND = re.compile(r"[a-z][-_:/.|+](.+)|(.+)[-_:/.|+][a-z]")
"""A part of an entity in small letters, whatever letter its notation has for it."""
_OUTSIDE_NAMES = {"o", "0", "_", "-", "*", "-x-", "none", "null", "nil", "other", "out", "outside"}
"""Names of what is outside of entities, in small letters; alone they do not make other tags parts of entities."""
_SAME_PART = {"M": "I", "L": "E", "U": "S", "W": "S"}
"""The letters of BMES, BILOU and BMEWO, and those of BIOES, which seqeval reads."""


@dataclass(frozen=True)
class TaggedDataset:
    """A data set of tagged words that is known by name."""

    hub_name: str
    entities: tuple[str, ...]
    """Kinds of entities, in the order of the official class numbers: O, B-first, I-first, B-second, ..."""

    @property
    def tags(self) -> list[str]:
        """All class names in their order."""
        return [OUTSIDE, *(f"{part}-{entity}" for entity in self.entities for part in "BI")]


TAGGED = {
    "conll2003": TaggedDataset("eriktks/conll2003", ("PER", "ORG", "LOC", "MISC")),
    "wnut_17": TaggedDataset(
        "leondz/wnut_17", ("corporation", "creative-work", "group", "location", "person", "product")
    ),
}


def entity_part(tag: str, bare: bool = False) -> str:
    """A tag as seqeval reads it, `B-X` for `B_X` too; `O` for one that is no part of an entity, such as `_`.

    Args:
        bare: parts are written without a kind, see `are_bare`.
    """
    if bare and tag in _LETTERS:
        return f"{_SAME_PART.get(tag, tag)}-{_ONE_KIND}"
    found = _PART.fullmatch(tag)
    return f"{_SAME_PART.get(found[1], found[1])}-{found[3]}" if found else OUTSIDE


def are_bare(tags: Collection[str]) -> bool:
    """Whether these are parts of entities of one kind, which is not written: `B` and `I` beside `O`."""
    return OUTSIDE in tags and len(tags) > 1 and _LETTERS.issuperset({*tags} - {OUTSIDE})


def are_of_entities(tags: Collection[str]) -> bool:
    """Whether these are parts of entities and not kinds of words, some of which look like parts: `E-MAIL`, `S_PRO`.

    All that is not outside is a part then, in whatever notation, and some entity has a word to begin with.
    """
    found = [part for part in map(_PART.fullmatch, tags) if part]
    if not found or _BEGIN.isdisjoint(part[1] for part in found):
        return are_bare(tags)
    between = {part[2] for part in found}
    return not kinds_of_words(tags) and ("-" in between or OUTSIDE in tags)


def kinds_of_words(tags: Collection[str]) -> list[str]:
    """The tags that are neither outside nor a part of an entity, in whatever notation, of a kind that has parts."""
    return [tag for tag in _inside(tags) if not is_entity_tag(tag) and tag not in _odd_parts(tags)]


def entity_tags(tags: Collection[str]) -> list[str]:
    """The tags that look like parts of entities as a scorer reads them."""
    return [tag for tag in tags if _PART.fullmatch(tag)]


def _odd_parts(tags: Collection[str]) -> list[str]:
    """The tags that are parts of the same kinds of entities as others, as no scorer reads them."""
    kinds = {part[3].casefold() for part in map(_PART.fullmatch, tags) if part}
    odd = {tag: _LETTER_AND_KIND.fullmatch(tag.casefold()) for tag in tags if not is_entity_tag(tag)}
    return [tag for tag, found in odd.items() if found and kinds & {*found.groups()}]


def in_other_notation(tags: Collection[str]) -> list[str]:
    """The tags that look like parts of entities as no scorer reads them, such as `PER-B` and `b-PER`.

    Beside tags that a scorer reads they are those of the same kinds, which it would take for outside of entities.
    Elsewhere they are all tags but the one for outside, or else none: kinds of words may look like them, too.
    """
    if are_of_entities(tags):
        return _odd_parts(tags)
    return _inside(tags) if are_only_of_entities(tags) else []


def are_only_of_entities(tags: Collection[str]) -> bool:
    """Whether these are parts of entities, in whatever notation, beside a name of what is outside of them."""
    inside = _inside(tags)
    return 0 < len(inside) < len(tags) and all(map(_OTHER_NOTATION.fullmatch, inside))


def _inside(tags: Collection[str]) -> list[str]:
    return [tag for tag in tags if tag.casefold() not in _OUTSIDE_NAMES]


def is_entity_tag(tag: str) -> bool:
    """Whether a tag is `O` or a part of an entity."""
    return tag == OUTSIDE or _PART.fullmatch(tag) is not None
