"""Data sets of tagged words that are known by name, and the order of their tags."""

from __future__ import annotations

from dataclasses import dataclass

OUTSIDE = "O"


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
