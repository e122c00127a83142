"""What the environment says of processes that a launcher started together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ted_distill.errors import InputError
from ted_distill.output.processes import local_rank, process_count, process_rank

READERS = {"WORLD_SIZE": process_count, "RANK": process_rank, "LOCAL_RANK": local_rank}


def test_without_a_launcher_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in READERS:
        monkeypatch.delenv(name, raising=False)
    assert (process_count(), process_rank(), local_rank()) == (1, 0, None)


def test_without_a_launcher_a_name_of_its_own_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "gold")
    for name in ("WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    assert (process_count(), process_rank(), local_rank()) == (1, 0, None)


def test_a_launcher_says_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (process_count(), process_rank(), local_rank()) == (8, 5, 1)


@pytest.mark.parametrize(("name", "read"), READERS.items())
@pytest.mark.parametrize("value", ["two", " ", "1.5"])
def test_what_is_no_number_is_refused(
    name: str, read: Callable[[], object], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"{name}: expected a whole number .*, got '{value}'; unset it"):
        read()
