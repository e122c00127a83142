"""How long a student takes for a row beside its teacher, measured on this machine with random weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig, PreTrainedModel

from ...errors import InputError
from ...wording import counted
from .student_choice import Family, Shape, largest_within, unreachable

_WARM_UP, _ROUNDS = 3, 15
Measure = Callable[[list[PreTrainedModel], int], list[float]]


@dataclass(frozen=True)
class Latency:
    """Seconds for one row."""

    teacher: float
    student: float
    tokens: int
    device: str

    @property
    def share(self) -> float:
        """The student's seconds divided by the teacher's."""
        return self.student / self.teacher


def of_latency(
    family: Family, share: float, tokens: int, make: Callable[[PretrainedConfig], PreTrainedModel], measure: Measure
) -> tuple[Shape, Latency]:
    """The largest student that takes at most this share of the teacher's time for one row, and what was measured.

    Each candidate is measured in turn with the teacher, so that whatever else the machine does slows both.

    Args:
        tokens: of the row.
        make: a model of random weights from a config.
        measure: seconds of each of some models; see `median_seconds`.

    Raises:
        InputError: there is no such student; says the smallest share that was measured.
    """
    teacher = make(family.teacher.config)
    found: dict[Shape, Latency] = {}

    def latency(shape: Shape) -> Latency:
        if shape not in found:
            student = make(family.student(shape).config)
            seconds = measure([teacher, student], tokens)
            found[shape] = Latency(seconds[0], seconds[1], tokens, device_name())
        return found[shape]

    shape = largest_within(family, lambda shape: latency(shape).share <= share)
    if shape is None:
        raise InputError(unreachable("student_latency", share, family, f"{latency(family.smallest()).share:.2f}"))
    return shape, latency(shape)


def median_seconds(models: Iterable[PreTrainedModel], tokens: int) -> list[float]:
    """The median time of each model for one row of random tokens; the models take turns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    every = [model.to(device).eval() for model in models]
    vocabulary = min(int(model.get_input_embeddings().weight.shape[0]) for model in every)
    ids = torch.randint(5, max(6, vocabulary), (1, tokens), generator=torch.Generator().manual_seed(0)).to(device)
    for model in every:  # some read what they classify at the end of the text
        if isinstance(end := getattr(model.config, "eos_token_id", None), int) and 0 <= end < vocabulary:
            ids[:, -1] = end
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    seconds: list[list[float]] = [[] for _ in every]
    with torch.inference_mode():
        for number in range(_WARM_UP + _ROUNDS):
            for model, found in zip(every, seconds, strict=True):
                began = time.perf_counter()
                model(**batch)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if number >= _WARM_UP:
                    found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in seconds]


def device_name() -> str:
    """The device that a model is measured on, in words."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    threads = torch.get_num_threads()
    return f"a CPU, {counted(threads, 'thread')}"
