"""`ted bench`: checkpoints or a run in, and a table of their scores, sizes and speeds in every format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..errors import InputError
from .report import report_at_the_end, say_files


def read_bench(words: list[str]) -> tuple[Any, ...] | None:
    """Checkpoints and arguments of a bench; None if help was printed.

    Raises:
        InputError: unknown flags, wrong values, or no name before the flags.
    """
    from ..benching.arguments import BenchArguments
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments
    from .flags import parse_flags

    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names, flags = words[:count], words[count:]
    title = "Score, size, latency and throughput of checkpoints, or of all models of a run, in PyTorch and ONNX."
    kinds = BenchArguments, TaskArguments, ModelArguments
    parsed = parse_flags("bench CHECKPOINT ...", title, kinds, flags if words else ["--help"])
    if parsed is None:
        return None
    if not names:
        raise InputError(
            "expected one or more checkpoints, or a run, before the flags, got none; write CHECKPOINT first"
        )
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
