"""What a check must not change: random numbers, and what the package says while it trains."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_PACKAGE = __name__.partition(".")[0]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore all random states afterwards, so that a run gives the same results with and without a check."""
    python, of_numpy, on_cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(on_cpu)
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)


@contextmanager
def silent() -> Iterator[list[str]]:
    """Collect the package's messages, each once, instead of printing them: they are not about a real run."""
    logger, said = logging.getLogger(_PACKAGE), _Keeper()
    passed_on, logger.propagate = logger.propagate, False
    logger.addHandler(said)
    try:
        yield said.sentences
    finally:
        logger.removeHandler(said)
        logger.propagate = passed_on


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.sentences: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        sentence = record.getMessage()
        if sentence not in self.sentences:
            self.sentences.append(sentence)
