"""The classes of a task: those of its data, or those of a model of which the data hold only some."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ..errors import InputError
from ..wording import listed
from .reading.columns import plain_name
from .reading.labels import sorted_names

logger = logging.getLogger(__name__)

_MOST = 10
"""Labels that a message names."""
_Labels = TypeVar("_Labels")


def match_names(wanted: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """The place among `known` of each wanted name; None for one that is not there.

    A name is matched exactly or, if there is no such name, in another case (`Good` and `good`); but not where several
    of the wanted or of the known names differ only by case, such as `US` and `us`.
    """
    exact = {name: place for place, name in enumerate(known)}
    seen, given = (Counter(name.casefold() for name in names) for names in (known, wanted))
    folded = {
        name.casefold(): place
        for name, place in exact.items()
        if seen[name.casefold()] == 1 and given[name.casefold()] == 1
    }
    return [exact.get(name, folded.get(name.casefold())) for name in wanted]


def completed(found: Sequence[str], offered: Sequence[str]) -> list[str] | None:
    """The offered names, spelt as those that were found; None unless these are some of them, but not all."""
    places = match_names(found, offered)
    if None in places or len(places) == len(offered):
        return None
    spelt = dict(zip(places, found, strict=True))
    return [spelt.get(place, name) for place, name in enumerate(offered)]


class ModelLabels:
    """Part of a task with classes: it may take those of a model, of which the data hold only some."""

    rows: Any
    """See `Task`."""
    _label_names: list[str] | None = None
    _offered: Sequence[Sequence[str]] = ()
    _completed: bool = False
    """The label names are not those of the data alone."""
    _settled: bool = False
    """See `Task`."""
    _official: bool = False
    """The classes are known without looking at the data."""
    _owner: str = "the model"
    """Whose labels were offered."""

    @property
    def label_names(self) -> list[str] | None:
        """Names of the classes in the order of the class numbers; reads the data if need be."""
        if self._label_names is None:
            _ = self.rows
        return self._label_names

    def offer_labels(self, offered: Sequence[Sequence[str]], owner: str = "the model") -> None:
        """See `Task.offer_labels`."""
        offered = [[*map(plain_name, names)] for names in offered]
        # Rows that are a part of others cannot be read again.
        if self._official or self._settled or offered == self._offered:
            return
        self._offered, self._owner = offered, owner
        known = self._label_names
        if known is not None and (self._completed or any(completed(known, names) for names in offered)):
            # The rows have other class numbers now.
            self._label_names, self._completed = None, False
            for name in ("rows", "identity"):
                self.__dict__.pop(name, None)

    @contextmanager
    def lent_labels(self) -> Iterator[None]:
        """See `Task.lent_labels`; rows that have another model's class numbers are read again."""
        offered, owner = self._offered, self._owner
        try:
            yield
        finally:
            self.offer_labels(offered, owner)

    @property
    def has_offer(self) -> bool:
        """See `Task.has_offer`."""
        return bool(self._offered)

    @property
    def offered_order(self) -> list[str] | None:
        """The task's labels in the order of the model that was offered; None if they are not its labels."""
        known = self._label_names or ()
        for offered in self._offered:
            places = match_names(offered, known)
            if len(places) == len(known) and None not in places:
                return [known[place] for place in places if place is not None]
        return None

    def in_order(self, names: Iterable[str]) -> list[str]:
        """The names in the order that they would have if the data held them all."""
        return sorted_names(names)

    def read_names(self, read: Callable[[list[str] | None], tuple[list[str], _Labels]]) -> tuple[list[str], _Labels]:
        """Label names and labels of rows.

        Args:
            read: reads both, given the names if they are known; raises `InputError` for labels not among these.
        """
        if self._label_names is not None or not self._offered:
            return read(self._label_names)
        try:
            found = read(None)
        except InputError:  # such as a single class
            return self._read_offered(read)
        for offered in self._offered:
            if names := completed(found[0], offered):
                return self._taken(read(self.in_order(names)), found[0])
        return found

    def _read_offered(self, read: Callable[[list[str] | None], Any]) -> Any:
        """Rows whose labels alone are not enough. Raises `InputError`: they are not the model's either."""
        for offered in self._offered:
            with suppress(InputError):
                return self._taken(read(self.in_order(offered)))
        return read(self.in_order(self._offered[0]))

    def _taken(self, labels: tuple[list[str], _Labels], found: Sequence[str] = ()) -> tuple[list[str], _Labels]:
        self._completed, names = True, labels[0]
        some = f"{len(found)}" if found else "fewer"
        logger.warning(
            "labels: expected all %d labels of %s in the data, got %s; taking %s's: %s",
            len(names), self._owner, some, self._owner, listed(names, _MOST),
        )  # fmt: skip
        return labels
