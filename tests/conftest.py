"""Shared by all tests: no network, quiet progress bars, and the number types of the machine or a given one."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ted_distill.training.trainer import StageTrainer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models here are so small that a second thread only waits for the first; pytest -n uses the cores instead.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--machine-bf16`: every default is that of a machine with bfloat16 units, whatever this one has."""
    parser.addoption("--machine-bf16", action="store_true", help="defaults as on a machine that multiplies in bfloat16")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Every training collects garbage, and looking through all that was imported takes a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_waiting() -> Iterator[None]:
    """Skip what takes a sixth of the time of a tiny run and changes nothing that a test can see: bringing every file to
    the disk, and looking through all objects after each training.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr("accelerate.utils.memory.gc", SimpleNamespace(collect=lambda: None))
        yield


@pytest.fixture(scope="session", autouse=True)
def _machine(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--machine-bf16"):
            set_bfloat16(patch, True)
        yield


@pytest.fixture(scope="module", autouse=True)
def _cache_of_a_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `datasets` keeps of files: nothing is found that another module, or an earlier run, has prepared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same for one test, in `cache` of its folder: for those that look into it, or that must read anew."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once a process is said once a test: folders of tests may have the same name."""
    monkeypatch.setattr("ted_distill.tasks.reading.notices._said", set())


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[StageTrainer]:
    """Every trainer that a stage makes."""
    from ted_distill.training.trainer import StageTrainer

    made: list[StageTrainer] = []
    fit = StageTrainer.fit

    def remember(self: StageTrainer) -> dict[str, float]:
        made.append(self)
        return fit(self)

    monkeypatch.setattr(StageTrainer, "fit", remember)
    return made


@pytest.fixture
def as_at_a_keyboard() -> Iterator[None]:
    """Tests may run in the background of a shell, where a job ignores interrupts, or in a process that ignores more."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults as on a machine without bfloat16 units: for tests that compare numbers or name a type."""
    set_bfloat16(monkeypatch, False)


@pytest.fixture(params=["machine", "bfloat16"])
def each_precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The test runs with the defaults of this machine, and once more with those of one that multiplies in bfloat16."""
    if request.param == "bfloat16":
        set_bfloat16(monkeypatch, True)
    return str(request.param)


def set_bfloat16(monkeypatch: pytest.MonkeyPatch, does_it_well: bool) -> None:
    for module in ("fast.precision", "training.stage_arguments"):
        monkeypatch.setattr(f"ted_distill.{module}.does_bfloat16_well", lambda device: does_it_well)
