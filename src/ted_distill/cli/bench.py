"""`ted bench`: checkpoints or a run in, and a table of their scores, sizes and speeds in every format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .report import report_at_the_end, say_files


def read_bench(words: list[str]) -> tuple[Any, ...] | None:
    """Checkpoints and arguments of a bench; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or no name before the flags.
    """
    from ..benching.arguments import BenchArguments
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments
    from .names import parse_names

    title = "Score, size, latency and throughput of checkpoints, or of all models of a run, in PyTorch and ONNX."
    read = parse_names(
        "bench CHECKPOINT ...",
        title,
        (BenchArguments, TaskArguments, ModelArguments),
        words,
        counts=range(1, len(words) + 1),
        what="one or more checkpoints, or a run,",
    )
    if read is None:
        return None
    names, parsed = read
    return (names, *parsed)


def bench(checkpoints: list[str], arguments: Any, task: Any, loading: Any) -> None:
    """Measure, and print the table; the report of a run is made again with it."""
    from ..benching.bench import bench
    from ..report.bench import bench_names, bench_text
    from ..report.writing import REPORT

    benched = bench(
        checkpoints,
        arguments.output_dir,
        teacher=arguments.teacher,
        formats=arguments.formats,
        task=task,
        test=arguments.test,
        rounds=arguments.rounds,
        rows=arguments.rows,
        threads=arguments.threads,
        cards=arguments.cards,
        model_arguments=loading,
    )
    sys.stdout.write(f"{bench_text(benched.about)}\n\n")
    say_files(bench_names(benched.folder))
    run = benched.folder.parent
    if benched.folder == Path(run, "bench") and (run / REPORT[0]).is_file():
        say_files(report_at_the_end(run))
