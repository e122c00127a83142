"""Time a training step of an encoder of MiniLM's shape with PyTorch's fused attention and with the plain one.

    python benchmarks/attention.py [--lengths 16 32 64 128] [--types float32 bfloat16] [--steps 5] [--batch_size 16]

Random weights, 6 blocks x 384, 12 heads of 32, and rows of which one in four is half as long, so that there is a mask.
Forward and backward, under autocast for bfloat16. Dropout is off, as it is for the student of Stage II: on a CPU,
PyTorch has no fused attention with dropout. Both take turns, one step each. Printed are medians of wall time and of CPU
seconds, those of plain attention over those of the fused one, and what share of a step the latter's backward is.
OMP_NUM_THREADS sets the number of threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForSequenceClassification

SHAPE = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "vocab_size": 2000, "num_labels": 2,
}  # fmt: skip
KINDS = ("sdpa", "eager")


class Steps:
    """A model with one kind of attention, which makes one step after the other on the same batch."""

    def __init__(self, kind: str, dtype: torch.dtype, rows: int, length: int, dropout: float) -> None:
        torch.manual_seed(0)
        of_all = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        self.model = BertForSequenceClassification(BertConfig(**SHAPE, **of_all, attn_implementation=kind)).train()
        self.dtype = dtype
        mask = torch.ones(rows, length, dtype=torch.long)
        mask[::4, length // 2 :] = 0
        self.batch = {
            "input_ids": torch.randint(5, SHAPE["vocab_size"], (rows, length)),
            "attention_mask": mask,
            "labels": torch.arange(rows) % 2,
        }

    def __call__(self) -> tuple[float, float]:
        """Wall and CPU seconds of one step."""
        began = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", self.dtype) if self.dtype != torch.float32 else nullcontext():
            loss = self.model(**self.batch).loss
        loss.backward()
        self.model.zero_grad()
        return time.perf_counter() - began[0], time.process_time() - began[1]

    def backward_share(self) -> float:
        """The share of the fused attention's backward in a step."""
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            self()
        events = profiled.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        backward = [event for event in events if "attention" in event.key and event.key.endswith("backward")]
        return sum(event.self_cpu_time_total for event in backward) / total


def measure(dtype: torch.dtype, length: int, options: argparse.Namespace) -> list[str]:
    """One line of the table."""
    made = {kind: Steps(kind, dtype, options.batch_size, length, options.dropout) for kind in KINDS}
    for step in made.values():
        step()  # which warms up
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for turn in range(options.steps):
        for kind in KINDS[:: -1 if turn % 2 else 1]:
            taken[kind].append(made[kind]())
    wall, cpu = ({kind: statistics.median(of[n] for of in taken[kind]) for kind in KINDS} for n in (0, 1))
    ratios = [clock["eager"] / clock["sdpa"] for clock in (wall, cpu)]
    cells = [f"{1000 * clock[kind]:.0f}" for clock in (wall, cpu) for kind in KINDS]
    cells += [f"{ratio:.2f}" for ratio in ratios] + [f"{made['sdpa'].backward_share():.0%}"]
    return [str(dtype).removeprefix("torch."), str(length), *cells]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 64, 128], help="tokens a row [16 32 64 128]")
    parser.add_argument("--types", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=5, help="steps that count [5]")
    parser.add_argument("--batch_size", type=int, default=16, help="rows a step [16]")
    parser.add_argument("--dropout", type=float, default=0.0, help="of states and attention [0]")
    options = parser.parse_args(argv)
    sys.stdout.write(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.batch_size} rows\n")
    head = ["type", "T", "sdpa ms", "eager ms", "sdpa CPU", "eager CPU", "eager/sdpa", "in CPU", "its backward"]
    sys.stdout.write("  ".join(f"{name:>12}" for name in head) + "\n")
    for name in options.types:
        for length in options.lengths:
            row = measure(getattr(torch, name), length, options)
            sys.stdout.write("  ".join(f"{cell:>12}" for cell in row) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
