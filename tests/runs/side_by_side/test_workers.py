"""Real worker processes: the same bytes as one after the other, also after an interruption, and errors as they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from small_runs import differing, made, write_recipe
from ted_distill import compare, load_task, read_recipe
from ted_distill.errors import InputError, TrainingError
from ted_distill.runs.graph import Node
from ted_distill.runs.run import run
from ted_distill.runs.side_by_side.jobs import Hello, Job
from ted_distill.runs.side_by_side.node_graph import is_side_by_side, refuse_several
from ted_distill.runs.side_by_side.shares import Share
from ted_distill.runs.side_by_side.workers import Workers, _Said
from tiny import save_tiny, write_reviews

SMALL = ["check=false", "report=false"]


@pytest.fixture
def one_thread() -> Any:
    """As many threads as each of two workers on two cores has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def nothing_to_do() -> Workers:
    hello = Hello({}, ["ted"], False, frozenset(), str(Path.cwd()), {})
    return Workers([Share(1)], hello, {"kd": Job("no such run", "kd")}, {})


def test_a_process_that_is_killed_is_told_in_one_line() -> None:
    with nothing_to_do() as pool:
        pool.start(0, Node("kd"), {})
        pool._processes[0]._process.kill()
        name, outcome = pool.next()
    assert name == "kd"
    assert isinstance(outcome, TrainingError)
    assert "ended by signal 9, as happens when memory runs out" in str(outcome)
    assert "\n" not in str(outcome)


def test_a_process_that_was_killed_while_it_had_nothing_to_do_is_told_when_it_gets_a_job() -> None:
    hello = Hello({}, ["ted"], False, frozenset(), str(Path.cwd()), {})
    with Workers([Share(1), Share(1)], hello, {"kd": Job("no such run", "kd")}, {}) as pool:
        for process in pool._processes:
            process._process.kill()
        pool.start(0, Node("kd"), {})
        assert isinstance(pool.next()[1], TrainingError)
        # By now the end of the other, which has no job, may have been seen or not.
        pool._said.put(_Said(0, "a line"))
        pool._processes[1]._process.wait()
        time.sleep(0.2)
        pool.start(1, Node("kd"), {})
        assert "ended by signal 9" in str(pool.next()[1])


def test_leaving_the_pool_ends_a_process_whatever_it_does() -> None:
    with nothing_to_do() as pool:
        process = pool._processes[0]._process
        assert process.poll() is None
    assert process.poll() is not None


@pytest.mark.long
def test_an_unexpected_error_comes_with_its_trace() -> None:
    with nothing_to_do() as pool:
        pool.start(0, Node("kd"), {})
        _, outcome = pool.next()
    assert isinstance(outcome, KeyError)
    assert "worker.py" in str(outcome.__cause__)


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_an_interrupted_run_leaves_no_process_and_ends_with_the_bytes_of_one_process(
    tmp_path: Path, one_thread: None
) -> None:
    recipe = write_recipe(tmp_path, "token_classification", seed=3)
    words = [*SMALL, f"output_dir={tmp_path / 'run'}", "training.disable_tqdm=false"]
    command = [sys.executable, "-m", "ted_distill", "run", str(recipe), *words, "workers=2"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A job in the background of a shell ignores SIGINT, and its children do too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as one:
        assert one.stderr is not None
        said = next(line for line in one.stderr if ": step " in line)
        one.send_signal(signal.SIGINT)
        said += one.stderr.read()
    assert one.returncode == 130
    assert said.endswith("interrupted; the same command resumes from what is saved\n")
    assert "Traceback" not in said
    # A process that went on would hold the lock of its stage's folder, and the same command would be refused.
    run(read_recipe(recipe, [*words, "workers=2"]))
    side_by_side = made(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "aside")
    run(read_recipe(recipe, words))
    assert differing(tmp_path / "run", side_by_side) == {}


@pytest.mark.long
def test_a_comparison_has_the_same_bytes_and_the_same_report(tmp_path: Path, one_thread: None) -> None:
    auto_class = load_task("sequence_classification").auto_model
    content = {
        "task": "sequence_classification",
        "train_file": str(write_reviews(tmp_path, 48, "train")),
        "validation_file": str(write_reviews(tmp_path, 20, "validation")),
        "teacher": str(save_tiny(tmp_path / "big", auto_class, "bert", blocks=2)),
        "student_layers": [2],
        "methods": ["kd"],
        "output_dir": str(tmp_path / "run"),
        "training": {"num_train_epochs": 2, "learning_rate": 1e-3, "use_cpu": True, "disable_tqdm": True},
    }
    grid = {"kl_alpha": [1, 5]}
    found = compare({**content, "workers": 2}, 2, grid, resamples=100)
    side_by_side = made(tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "aside")
    assert {**compare(content, 2, grid, resamples=100), "seconds": found["seconds"]} == found
    one_by_one = made(tmp_path / "run")
    differing = {name for name in one_by_one if one_by_one[name] != side_by_side.get(name)}
    assert one_by_one.keys() == side_by_side.keys()
    assert differing <= {"compare/compare.json", "compare/compare.md"}, "which have the seconds of each stage"


def test_processes_that_others_start_are_not_multiplied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification")
    asked, left_open = (
        read_recipe(recipe, [f"output_dir={tmp_path / 'run'}", words]) for words in ("workers=2", "workers=auto")
    )
    assert is_side_by_side(left_open)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="workers: expected 1 where torchrun or accelerate launch starts"):
        refuse_several(asked)
    refuse_several(left_open)
    assert not is_side_by_side(left_open)


def test_a_recipe_may_say_how_many(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "sequence_classification")
    said = [f"output_dir={tmp_path / 'run'}"]
    assert read_recipe(recipe, said).run.workers is None
    assert read_recipe(recipe, [*said, "workers=4"]).run.workers == 4
    assert read_recipe(recipe, [*said, "workers=auto"]).run.workers == "auto"
    for wrong in ("0", "many", "true"):
        with pytest.raises(InputError, match="workers: expected"):
            read_recipe(recipe, [*said, f"workers={wrong}"])
    with pytest.raises(InputError, match="launcher: expected one of local, ray, got 'slurm'"):
        read_recipe(recipe, [*said, "launcher=slurm"])
