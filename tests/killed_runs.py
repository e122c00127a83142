"""Runs of a recipe that are killed again and again: `killed_runs.py RECIPE FOLDER KILLS KILLS_A_RUN`.

Importing torch and transformers takes longer than the run itself, so this process imports them once and forks. It has
one thread and never trains itself. Half of the kills come at a random moment, half right before or after a file is
synced, renamed or deleted, which is when a stage's folder changes.

RECIPE is run in FOLDER/whole without a kill, in FOLDER/together by two processes at once, one of which is refused, and
in FOLDER/0, FOLDER/1, ... with up to KILLS_A_RUN each, until there were KILLS: a run that ended before it was killed
leaves nothing to kill, so the next attempt begins a new one. Prints how each attempt ended.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch

from ted_distill import read_recipe, run
from ted_distill.errors import InputError, TrainingError

CHANGES = ("fsync", "replace", "unlink", "rmdir")


def kill_at_change(number: int, after: bool) -> None:
    """Kill this process at its `number`-th change of files, before or after it."""
    seen = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = change(*args, **kwargs)
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def attempt(recipe: Path, folder: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Start the run in a child process, and return its number."""
    child = os.fork()
    if child:
        return child
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    datasets.config.HF_DATASETS_CACHE = folder.with_suffix(".cache")
    try:
        prepare()
        run(read_recipe(recipe, [f"output_dir={folder}"]))
    except (InputError, TrainingError) as error:
        os.write(2, f"refused: {error}\n".encode())
        os._exit(2)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(child: int) -> int:
    """The exit code of an attempt, -9 for a killed one."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(recipe: Path, folder: Path, kills: int, kills_a_run: int) -> None:
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    assert ended(attempt(recipe, folder / "whole")) == 0, (folder / "whole.log").read_text()
    seconds = time.monotonic() - start
    together = [ended(child) for child in [attempt(recipe, folder / "together") for _ in range(2)]]
    assert sorted(together) == [0, 2], (folder / "together.log").read_text()
    assert (folder / "together.log").read_text().count("refused: ") == 1
    draw = random.Random(kills)
    killed = number = 0
    while killed < kills:
        assert number < kills, f"{number} runs gave only {killed} kills: most of them end before they are killed"
        here, code = folder / str(number), -9
        for _ in range(min(kills_a_run, kills - killed)):
            if draw.random() < 0.5:
                child = attempt(recipe, here)
                time.sleep(draw.uniform(0.05, 0.5) * seconds)
                os.kill(child, signal.SIGKILL)
            else:
                place, after = draw.randint(1, 60), draw.random() < 0.5
                child = attempt(recipe, here, lambda place=place, after=after: kill_at_change(place, after))
            code = ended(child)
            killed += code == -9
            sys.stdout.write(f"{number} {code}\n")
            assert code in (-9, 0), here.with_suffix(".log").read_text()
            if code == 0:
                break
        if code == -9:
            code = ended(attempt(recipe, here))
        assert code == 0, here.with_suffix(".log").read_text()
        number += 1
    sys.stdout.write(f"killed {killed}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
