"""What the environment says of processes that a launcher started together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from accelerate import PartialState

from processes import in_processes
from ted_distill.errors import GateError, InputError, TrainingError
from ted_distill.output import gathered, locked, on_main
from ted_distill.output.processes import is_said_elsewhere, local_rank, process_count, process_rank

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


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InputError("x"), [0, 1, 8, 9]),
        (TrainingError("x"), [0, 1, 8, 9]),
        (OSError("x"), [0, 1, 8, 9]),
        (GateError("x"), [0]),
        (KeyboardInterrupt(), [0]),
    ],
)
def test_two_machines_say_once_what_all_processes_know(
    error: BaseException, says: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_said_by(rank: int) -> bool:
        for name, value in {"WORLD_SIZE": 16, "RANK": rank, "LOCAL_RANK": rank % 8}.items():
            monkeypatch.setenv(name, str(value))
        return not is_said_elsewhere(error)

    assert [rank for rank in (0, 1, 8, 9) if is_said_by(rank)] == says


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_what_the_main_process_decides_it_says_alone(tmp_path: Path) -> None:
    def refused() -> None:
        raise TrainingError("the disk is full")

    def run() -> None:
        PartialState(cpu=True)
        assert gathered(process_rank()) == [0, 1]
        with pytest.raises(TrainingError, match="the disk is full") as stopped:
            on_main(refused)
        assert is_said_elsewhere(stopped.value) == (process_rank() == 1)

    in_processes(2, run, tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_folder_that_not_all_processes_see_is_refused_before_anything_is_done_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on machines without a common disk."""
    monkeypatch.setattr("ted_distill.output.locks._APPEARS_WITHIN", 0.1)
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()

    def run() -> None:
        PartialState(cpu=True)
        with locked(tmp_path / "shared"):
            pass
        os.chdir(tmp_path / str(process_rank()))
        with (
            pytest.raises(InputError, match=r"got out, which 1 process of 2 .* rank 1\) cannot see"),
            locked(Path("out")),
        ):
            raise AssertionError

    in_processes(2, run, tmp_path)
    assert not [*(tmp_path / "0").iterdir(), *(tmp_path / "1").iterdir(), *(tmp_path / "shared").iterdir()]
