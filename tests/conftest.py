"""Shared by all tests: no network, quiet progress bars, tiny models and tokenizers of real Hugging Face classes."""

from __future__ import annotations

import gc
import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> None:
    """Every training collects garbage, and looking through all that was imported takes a second each time."""
    gc.collect()
    gc.freeze()
