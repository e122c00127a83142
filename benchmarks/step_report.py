"""The tables that `steps.py` prints of its results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

Result = dict[str, Any]


def report(measured: dict[str, Any]) -> str:
    """A line about the machine and a table for each stage, from the result of `steps.measure`."""
    settings, machine = measured["settings"], measured["machine"]
    rate = measured["bf16_flops_per_second"]
    where = machine["device"] if machine["device"] != "cpu" else f"{machine['cpu']}, {machine['threads']} threads"
    lines = [f"{where}; bf16 products reach {rate / 1e9:,.0f} GFLOP/s"]
    for stage in settings["stages"]:
        results = [result for result in measured["results"] if result["stage"] == stage]
        if not results:
            continue
        lines += ["", f"Stage {'I' * stage}, {settings['task']}, batches of {settings['batch_size']}"]
        table = epochs_table(results, settings["epochs"]) if settings["epochs"] > 1 else steps_table(results, rate)
        lines += aligned(list(table))
    return "\n".join(lines) + "\n"


def steps_table(results: list[Result], rate: float) -> Iterator[list[str]]:
    """Seconds per step, speed-up over plain, memory, and the share of the machine's fastest matrix products."""
    yield [
        "T", "variant", "min s", "plain/min", "median s", "plain/median", "peak GB", "plain/peak", "GFLOP", "of rate",
    ]  # fmt: skip
    for result in results:
        fastest = min(result["seconds"])
        yield [
            str(result["length"]), result["variant"],
            f"{fastest:.3f}", ratio(results, result, lambda run: min(run["seconds"])),
            f"{statistics.median(result['seconds']):.3f}",
            ratio(results, result, lambda run: statistics.median(run["seconds"])),
            *memory(results, result), f"{result['flops'] / 1e9:,.1f}", f"{result['flops'] / fastest / rate:.1%}",
        ]  # fmt: skip


def epochs_table(results: list[Result], epochs: int) -> Iterator[list[str]]:
    """Mean seconds per step of each epoch, and of all epochs together."""
    names = [f"epoch {number}" for number in range(1, epochs + 1)]
    yield ["T", "variant", *names, "mean s", "plain/mean", "peak GB", "plain/peak"]
    for result in results:
        means = epoch_means(result, epochs)
        yield [
            str(result["length"]), result["variant"], *(f"{mean:.3f}" for mean in means),
            f"{statistics.mean(means):.3f}",
            ratio(results, result, lambda run: statistics.mean(epoch_means(run, epochs))), *memory(results, result),
        ]  # fmt: skip


def epoch_means(result: Result, epochs: int) -> list[float]:
    """Mean seconds per step of each epoch, without the very first step, which also warms up."""
    steps = len(result["seconds"]) // epochs
    return [statistics.mean(result["seconds"][max(epoch * steps, 1) : (epoch + 1) * steps]) for epoch in range(epochs)]


def memory(results: list[Result], result: Result) -> list[str]:
    """Peak in GB, and that of plain over it."""
    return [f"{result['peak_bytes'] / 1e9:.2f}", ratio(results, result, lambda run: run["peak_bytes"])]


def ratio(results: list[Result], result: Result, quantity: Callable[[Result], float]) -> str:
    """A quantity of plain at the same length over that of this run."""
    plain = [run for run in results if run["variant"] == "plain" and run["length"] == result["length"]]
    return f"{quantity(plain[0]) / quantity(result):.2f}x" if plain else "-"


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width; the second, a name, is flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 1 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
