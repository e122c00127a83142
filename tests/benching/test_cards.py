"""The section in a model card: what a user wrote stays, and a folder of ours is not taken for damaged."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from ted_distill import InputError
from ted_distill.benching.candidates import Candidate
from ted_distill.benching.cards import BEGIN, END, check_cards, with_section, write_cards
from ted_distill.models.load import ModelArguments
from ted_distill.output import check_inputs, publication, read_manifest


def row(model: str, role: str, kind: str, score: float, milliseconds: float) -> dict[str, Any]:
    speed = 1000 / milliseconds
    return {
        "model": model, "name": model, "role": role, "format": kind, "parameters": 1000, "bytes": 4000, "weights": {},
        "parameters_without_embeddings": 400, "score": score, "to_float32": None, "changed": None, "on_front": True,
        "batch_1": {
            "p50_ms": milliseconds, "p50_ms_spread": [milliseconds, milliseconds], "p95_ms": 2 * milliseconds,
            "rows_per_second": speed, "cpu_ms": milliseconds,
        },
        "batch_32": {"rows_per_second": 2 * speed, "rows_per_second_spread": [speed, 2 * speed], "cpu_ms": 1.0},
        "to_teacher": {
            "score": score / 80, "batch_1": 10 / milliseconds, "batch_32": 10 / milliseconds, "p50": 1.0, "cpu": 5.0,
        },
    }  # fmt: skip


ABOUT: dict[str, Any] = {
    "metric": "accuracy", "lower_is_better": False, "rows": "48 validation rows", "scored": True, "rounds": 7,
    "threads": 1, "notes": [], "hardware": {"processor": "a processor", "cores": 2},
    "sample": {"rows": 48, "unit": "row", "tokens": {"shortest": 3, "median": 6, "longest": 9}, "batch_size": 32},
    "candidates": [
        row("teacher", "teacher", "pytorch", 80.0, 10.0), row("ted", "student", "int8", 79.0, 1.0),
        row("kd", "student", "int8", 70.0, 1.0),
    ],
}  # fmt: skip


def student(folder: Path, card: str | None = "# ted\n\nMine.\n") -> Candidate:
    """A published folder with a card."""
    with publication(folder, {"stage": "distill"}) as partial:
        (partial / "config.json").write_text("{}")
        if card is not None:
            (partial / "README.md").write_text(card)
    return Candidate("ted", str(folder), ModelArguments())


def card_of(candidate: Candidate) -> str:
    return (Path(candidate.place) / "README.md").read_text(encoding="utf-8")


def test_a_section_goes_to_the_end_of_a_card_or_where_the_former_one_was() -> None:
    assert with_section("# ted\n", "x") == "# ted\n\nx\n"
    assert with_section("", "x") == "x\n"
    assert with_section(f"a {BEGIN} old {END} b", f"{BEGIN} new {END}") == f"a {BEGIN} new {END} b"


def test_a_section_is_added_once_and_replaced_and_everything_else_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ted = student(tmp_path / "ted")
    teacher = Candidate("teacher", str(tmp_path), ModelArguments(), is_teacher=True)
    write_cards([teacher, ted], ABOUT)
    first = card_of(ted)
    assert first.startswith("# ted\n\nMine.\n\n" + BEGIN)
    assert "| ted " in first
    assert "| teacher " in first
    assert "| kd " not in first
    assert "10.0 times the teacher's throughput in PyTorch float32 with 98.8 % of its score (5.00 times by " in first
    write_cards([ted], {**ABOUT, "rounds": 9})
    assert "9 rounds" in card_of(ted)
    assert card_of(ted).count(BEGIN) == card_of(ted).count(END) == 1
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        check_inputs(ted.place)
    assert not caplog.records
    assert not (tmp_path / "README.md").exists()


def test_a_card_that_was_edited_by_hand_keeps_every_word_and_stays_known_as_edited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ted = student(tmp_path / "ted")
    before = read_manifest(tmp_path / "ted")
    (tmp_path / "ted" / "README.md").write_text("# Ours\n\nWords.\n", encoding="utf-8")
    write_cards([ted], ABOUT)
    text = card_of(ted)
    (tmp_path / "ted" / "README.md").write_text(text + "\nMore words.\n", encoding="utf-8")
    write_cards([ted], ABOUT)
    assert card_of(ted).startswith("# Ours\n\nWords.\n")
    assert card_of(ted).endswith(END + "\n\nMore words.\n")
    assert read_manifest(tmp_path / "ted") == before
    check_inputs(ted.place)
    assert "README.md (changed)" in caplog.text


def test_a_folder_without_a_card_gets_one(tmp_path: Path) -> None:
    ted = student(tmp_path / "ted", card=None)
    write_cards([ted], ABOUT)
    assert card_of(ted).startswith(BEGIN)
    check_inputs(ted.place)


@pytest.mark.parametrize("card", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_marks_that_are_no_pair_are_refused(tmp_path: Path, card: str) -> None:
    ted = student(tmp_path / "ted", card)
    with pytest.raises(InputError, match=r"cards: expected .*README.md to have one section between .* no pair"):
        check_cards([ted])


def test_the_copy_of_the_best_student_gets_the_figures_too(tmp_path: Path) -> None:
    """It is what is pushed; a trimmed copy is another model."""
    candidate = student(tmp_path / "ted")
    for name, about in (("best", {"copy_of": "ted"}), ("other/best", {"copy_of": "ted", "trimmed": "x"})):
        with publication(tmp_path / name, {"stage": "best", **about}) as partial:
            (partial / "README.md").write_text("# ted\n")
    trimmed = student(tmp_path / "other" / "ted")
    write_cards([candidate, trimmed], ABOUT)
    assert BEGIN in (tmp_path / "best" / "README.md").read_text()
    assert BEGIN not in (tmp_path / "other" / "best" / "README.md").read_text()
    check_inputs(str(tmp_path / "best"), "model")
