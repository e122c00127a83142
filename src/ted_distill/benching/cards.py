"""The figures of a student in its model card: a section between two marks, beside whatever else the card says."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, raise_if_any
from ..output import check_writable, read_manifest
from ..output.cards import CARD_NAME, replace_card
from ..report.bench import about_bench, bench_table, verdict
from ..runs.table import BEST, markdown_table
from .candidates import Candidate

logger = logging.getLogger(__name__)

BEGIN, END = "<!-- ted bench: begin -->", "<!-- ted bench: end -->"


def check_cards(candidates: Sequence[Candidate]) -> None:
    """Refuse cards that no section can be put into. Raises `InputError` with all problems."""
    problems = []
    for folder in _folders(candidates):
        check_writable(folder, "cards")
        text = _text(folder)
        marks = text.count(BEGIN), text.count(END)
        if marks not in ((0, 0), (1, 1)) or (marks == (1, 1) and text.index(BEGIN) > text.index(END)):
            problems.append(
                f"cards: expected {folder / CARD_NAME} to have one section between {BEGIN} and {END}, or none, got "
                "marks that are no pair; remove them"
            )
    raise_if_any(problems)


def write_cards(candidates: Sequence[Candidate], about: Mapping[str, Any]) -> None:
    """Put the figures of each student into its card, and those of the teacher beside them."""
    for candidate in candidates:
        for folder in _folders([candidate]):
            replace_card(folder, with_section(_text(folder), section(candidate.title, about)))
            logger.warning("bench: the figures of %s are in %s", candidate.title, folder / CARD_NAME)


def _folders(candidates: Sequence[Candidate]) -> Iterator[Path]:
    """The folders of the students; those of the Hub have none here."""
    for candidate in candidates:
        folder = Path(candidate.place)
        if candidate.is_teacher or not folder.is_dir():
            continue
        yield folder
        # The copy of a run's best student, which is what is pushed; a trimmed one is another model.
        best = folder.parent / BEST
        about = read_manifest(best) or {}
        if folder.name == about.get("copy_of") and "trimmed" not in about:
            yield best


def section(title: str, about: Mapping[str, Any]) -> str:
    """The section, marks and all."""
    rows = [row for row in about["candidates"] if row["model"] == title or row["role"] == "teacher"]
    of = {**about, "candidates": rows}
    parts = ["## Formats", markdown_table(bench_table(of)), verdict(of), about_bench(of)]
    return "\n\n".join([BEGIN, *(part for part in parts if part), END])


def with_section(card: str, text: str) -> str:
    """A card with the section in place of a former one, or at its end."""
    if BEGIN not in card:
        return f"{card.rstrip()}\n\n{text}\n".lstrip()
    before, _, rest = card.partition(BEGIN)
    return before + text + rest.partition(END)[2]


def _text(folder: Path) -> str:
    file = folder / CARD_NAME
    try:
        return file.read_bytes().decode("utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cards: expected {file} to be text in UTF-8, got an error ({error}); fix it") from error
