"""What a check found: facts, doubts and problems, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from textwrap import fill

from ...errors import raise_if_any
from ...wording import counted
from ..planning.show import paragraphs
from ..table import markdown_table

_WIDTH = 112


@dataclass
class Report:
    """Everything that a check found out about a recipe on this machine."""

    facts: dict[str, str] = field(default_factory=dict)
    """Name -> one line, in the order in which they are printed."""
    stages: list[list[str]] = field(default_factory=list)
    """Cells of a table of the stages, the names of its columns first; empty if no steps were timed."""
    notes: list[str] = field(default_factory=list)
    """How the numbers were measured."""
    doubts: list[str] = field(default_factory=list)
    """What may be wrong, each a sentence with a remedy; a run goes on all the same."""
    problems: list[str] = field(default_factory=list)
    """What a run would fail by, each a sentence with a remedy."""
    seconds: float | None = None
    """How long the whole run takes on this machine, if steps were timed."""

    def doubt(self, found: Iterable[str]) -> None:
        """Add doubts, each once."""
        self.doubts = list(dict.fromkeys([*self.doubts, *found]))

    def raise_problems(self) -> None:
        """Refuse the recipe. Raises `InputError` with all problems, if there are any."""
        raise_if_any(self.problems)

    def text(self) -> str:
        """The whole report, for people; doubts come last, where they are seen."""
        parts = [paragraphs({name: fact for name, fact in self.facts.items() if fact})]
        parts += [markdown_table(self.stages)] if self.stages else []
        parts += [fill(" ".join(self.notes), _WIDTH)] if self.notes else []
        parts += [self.doubts_text() or "doubts: none"]
        return "\n\n".join(parts) + "\n"

    def doubts_text(self) -> str:
        """The doubts as a list; nothing if there are none."""
        if not self.doubts:
            return ""
        return "\n".join([counted(len(self.doubts), "doubt"), *(f"- {doubt}" for doubt in self.doubts)])

    def summary(self) -> str:
        """What a run says before its first stage: the scores, the time, and the doubts."""
        lines = [f"{name}: {self.facts[name]}" for name in ("scores", "time", "disk") if name in self.facts]
        return "\n".join([*lines, *(f"doubt: {doubt}" for doubt in self.doubts)])
