"""Shared by all tests: no network, quiet progress bars, tiny models and tokenizers of real Hugging Face classes."""

from __future__ import annotations

import gc
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models here are so small that a second thread only waits for the first; pytest -n uses the cores instead.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Every training collects garbage, and looking through all that was imported takes a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers on every machine: bfloat16 only where a test asks for it."""
    for module in ("fast.precision", "training.stage_arguments"):
        monkeypatch.setattr(f"ted_distill.{module}.does_bfloat16_well", lambda device: False)
