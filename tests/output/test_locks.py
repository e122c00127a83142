"""One process works in a folder at a time, and a dead one locks nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from ted_distill import InputError, read_recipe, run
from ted_distill.output import locked, refuse_busy
from ted_distill.output.locks import LOCK_NAME, _forget
from tiny import write_reviews

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(600)
"""


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a folder."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLD, str(folder / LOCK_NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_in_one_line_and_a_killed_one_locks_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with other_process(folder) as process:
        for call in (lambda: refuse_busy(folder), lambda: locked(folder).__enter__()):
            with pytest.raises(
                InputError, match=r"expected .*run to be free, got a folder in which another process is"
            ):
                call()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (folder / LOCK_NAME).exists()
    refuse_busy(folder)
    with locked(folder):
        pass
    assert list(folder.iterdir()) == []


def test_two_holders_in_one_process_are_refused_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InputError, match="another process is working"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_looking_writes_nothing(tmp_path: Path) -> None:
    refuse_busy(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_released_when_what_it_guards_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), locked(tmp_path):
        raise ValueError("wrong")
    with locked(tmp_path):
        pass


def test_a_forked_process_does_not_hold_the_lock_on(tmp_path: Path) -> None:
    """Data loaders fork; one that outlives a killed run must not keep the folder locked."""
    with locked(tmp_path):
        _forget()  # what runs in the child; here it closes the only descriptor, as the kernel does for a killed parent
        with locked(tmp_path):
            pass
        (tmp_path / LOCK_NAME).write_text("")
    assert (tmp_path / LOCK_NAME).exists()  # one that gave its lock up does not delete another's file


def test_a_run_in_a_folder_where_another_works_is_refused_before_anything(tmp_path: Path) -> None:
    content = {
        "task": "sequence_classification",
        "train_file": str(write_reviews(tmp_path, 8, "train")),
        "validation_file": str(write_reviews(tmp_path, 8, "validation")),
        "teacher": str(tmp_path / "none"),
        "student": str(tmp_path / "none"),
        "methods": ["kd"],
        "output_dir": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    with other_process(tmp_path / "run"), pytest.raises(InputError) as refused:
        run(read_recipe(tmp_path / "recipe.yaml", []))
    assert any("another process is working" in problem for problem in refused.value.problems)
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [LOCK_NAME]


def test_a_file_system_without_locks_is_used_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    for _ in range(2):
        refuse_busy(tmp_path)
        with locked(tmp_path):
            assert "cannot lock" in caplog.text
        assert not list(tmp_path.iterdir())
    # One that an earlier version or another process has left there says nothing.
    (tmp_path / ".ted-lock").touch()
    refuse_busy(tmp_path)


@pytest.fixture
def of_another_user(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Lock files cannot be written, whoever runs the tests; ways to open them that are refused."""
    refused = {os.O_RDWR, os.O_RDWR | os.O_CREAT}
    opens = os.open

    def only_read(file: Any, flags: int, *mode: int) -> int:
        if Path(file).name == LOCK_NAME and flags in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opens(file, flags, *mode)

    monkeypatch.setattr(os, "open", only_read)
    return refused


def test_the_lock_of_another_user_is_seen_and_taken_when_it_is_left_over(
    tmp_path: Path, of_another_user: set[int]
) -> None:
    (tmp_path / LOCK_NAME).touch()
    refuse_busy(tmp_path)
    with locked(tmp_path):
        for call in (lambda: refuse_busy(tmp_path), lambda: locked(tmp_path).__enter__()):
            with pytest.raises(InputError, match="another process is working"):
                call()


def test_a_lock_that_cannot_even_be_read_is_named(tmp_path: Path, of_another_user: set[int]) -> None:
    (tmp_path / LOCK_NAME).touch()
    of_another_user.add(os.O_RDONLY)
    for call in (lambda: refuse_busy(tmp_path), lambda: locked(tmp_path).__enter__()):
        with pytest.raises(InputError, match=r"expected a lock that can be opened, got .*\.ted-lock \(Permission"):
            call()
