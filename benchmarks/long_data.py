"""Does it cost more when data are long? Memory of the teacher's cache, and the speed of streams and of tokenising.

    python benchmarks/long_data.py cache --tokens 1e6 1e7 1e8       # one process each, which fills a cache and reads it
    python benchmarks/long_data.py text MODEL FILE.txt              # tokens per second, and what going on costs

Memory is what a process has of its own (`Anonymous` of /proc/self/smaps_rollup, so Linux only): files that were read do
not count. It is compared with the same process before the cache was opened.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer

from ted_distill import TaskArguments, load_task
from ted_distill.fast.states_cache import ROW, StatesCache, open_cache
from ted_distill.method.filters import Batch, Signals
from ted_distill.training.sharded.shares import EpochSampler

_MIB = 1 << 20
LENGTH = 256
"""Tokens of a row, a usual number for sentences and questions."""
BLOCKS, WIDTH, BATCH = 6, 2, 64


def own_memory() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


# --- the cache ------------------------------------------------------------------------------------------------


def outputs(batch: Batch) -> Signals:
    """Of a frozen model that costs nothing."""
    rows = len(batch["input_ids"])
    states = [torch.ones(rows, LENGTH, WIDTH, dtype=torch.bfloat16) for _ in range(BLOCKS)]
    return Signals(torch.ones(rows, 2), states)


def not_again(batch: Batch) -> Signals:
    """Outputs that should have been in the cache."""
    raise AssertionError("a row is missing")


def visit(cache: StatesCache, rows: int, run: Any) -> None:
    """Ask for all rows."""
    ids = torch.ones(BATCH, LENGTH, dtype=torch.long)
    for start in range(0, rows, BATCH):
        numbers = torch.arange(start, min(start + BATCH, rows))
        cache({"input_ids": ids[: len(numbers)], ROW: numbers}, range(1, BLOCKS + 1), run)


def measure_cache(folder: Path, tokens: int, fill: bool) -> dict[str, Any]:
    """Own memory that the cache takes in this process: opened, and after all rows."""
    rows = tokens // LENGTH
    features = Dataset.from_dict({"length": np.full(rows, LENGTH)})
    small = open_cache(folder / "small", 100, "model", features.select([0]), BLOCKS, WIDTH, torch.bfloat16)
    visit(small, 1, outputs)  # what PyTorch keeps for itself after the first use
    sizes = [own_memory()]
    cache = open_cache(folder, 100, "model", features, BLOCKS, WIDTH, torch.bfloat16)
    sizes.append(own_memory())
    begun = time.perf_counter()
    visit(cache, rows, outputs if fill else not_again)
    seconds = time.perf_counter() - begun
    sizes.append(own_memory())
    order = iter(EpochSampler(rows, 0))
    next(order)
    sizes.append(own_memory())
    opened, filled, sampled = (round((size - sizes[0]) / _MIB, 1) for size in sizes[1:])
    return {
        "tokens": tokens, "rows": rows, "how": "fill" if fill else "read", "opened_mib": opened, "all_rows_mib": filled,
        "with_order_mib": sampled, "rows_per_second": round(rows / seconds),
    }  # fmt: skip


def measure_caches(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """Each size in new processes: one fills the cache, one reads it."""
    for tokens in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for how in ("fill", "read"):
                command = [sys.executable, __file__, "one", folder, str(tokens), how]
                yield json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# --- text -----------------------------------------------------------------------------------------------------


def measure_text(model: str, file: Path, most: int) -> Iterator[dict[str, Any]]:
    """Tokens per second: rows one by one, in lists, as a stream; and the seconds to a block in the middle."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = load_task(TaskArguments("causal_lm", train_file=str(file), max_train_samples=most)).rows["train"]["text"][:]
    for name, size in (("one by one", 1), ("lists of 1000", 1000)):
        begun, tokens = time.perf_counter(), 0
        for start in range(0, len(rows), size):
            found = tokenizer(rows[start : start + size], add_special_tokens=False, verbose=False)["input_ids"]
            tokens += sum(map(len, found))
        yield {"what": name, "tokens": tokens, "tokens_per_second": round(tokens / (time.perf_counter() - begun))}
    task = load_task(
        TaskArguments(
            "causal_lm", train_file=str(file), max_train_samples=most, streaming=True, max_seq_length=256,
            row_separator="none",
        )
    )  # fmt: skip
    begun, read = time.perf_counter(), 0
    for batch in task.rows["train"].iter(batch_size=1000):
        read += len(batch["text"])
    yield {"what": "rows read, not tokenised", "rows": read, "seconds": round(time.perf_counter() - begun, 2)}
    stream: Any = task.encode_training(task.rows["train"], tokenizer).shuffle(seed=1, buffer_size=1000)
    begun = time.perf_counter()
    blocks = sum(1 for _ in stream)
    seconds = time.perf_counter() - begun
    yield {"what": "stream", "tokens": blocks * 256, "tokens_per_second": round(blocks * 256 / seconds)}
    yield from going_on(stream, int(0.9 * blocks))


def going_on(stream: Any, blocks: int) -> Iterator[dict[str, Any]]:
    """Seconds to the block after so many: from the beginning, and from the last place before it."""
    from ted_distill.tasks.text.block_stream import Walk

    places: list[Any] = []
    begun = time.perf_counter()
    next(islice(stream.walk(Walk(passed=places.append)), blocks, None))
    again = time.perf_counter() - begun
    place = [place for place in places if place.blocks <= blocks][-1]
    begun = time.perf_counter()
    next(islice(stream.walk(Walk(place)), blocks - place.blocks, None))
    yield {"what": "to a block behind nine tenths, read again", "seconds": round(again, 2)}
    yield {"what": "... from the place kept", "seconds": round(time.perf_counter() - begun, 2)}


def main() -> None:
    """Print what was measured, a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_cache = commands.add_parser("cache")
    of_cache.add_argument("--tokens", type=float, nargs="+", default=[1e6, 1e7])
    of_text = commands.add_parser("text")
    of_text.add_argument("model")
    of_text.add_argument("file", type=Path)
    of_text.add_argument("--rows", type=int, default=100_000)
    one = commands.add_parser("one")
    one.add_argument("folder", type=Path)
    one.add_argument("tokens", type=int)
    one.add_argument("how", choices=["fill", "read"])
    args = parser.parse_args()
    if args.command == "one":
        found: Any = [measure_cache(args.folder, args.tokens, args.how == "fill")]
    elif args.command == "cache":
        found = measure_caches([int(tokens) for tokens in args.tokens])
    else:
        found = measure_text(args.model, args.file, args.rows)
    for line in found:
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
