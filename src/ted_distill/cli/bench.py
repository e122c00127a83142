"""`ted bench`: checkpoints or a run in, and a table of their scores, sizes and speeds in every format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from .report import report_at_the_end, say_files


def bench_kinds() -> tuple[type, ...]:
    """The arguments of `ted bench`."""
    from ..benching.arguments import BenchArguments
    from ..models.load import ModelArguments
    from ..tasks import TaskArguments

    return BenchArguments, TaskArguments, ModelArguments


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
    sys.stdout.write(f"{bench_text(benched.about, short=True)}\n\n")
    say_files(bench_names(benched.folder))
    run = benched.folder.parent
    if benched.folder == Path(run, "bench") and (run / REPORT[0]).is_file():
        say_files(report_at_the_end(run))
