"""Where the time of a whole `ted run` goes: start-up, data, loading, tokenising, training, saving, scoring, report.

    python benchmarks/run_parts.py RECIPE [key=value ...]
    python benchmarks/run_parts.py recipes/offline/sst2.yaml teacher=MODEL train_file=sst2/train.parquet \
        validation_file=sst2/validation.parquet output_dir=runs/parts max_train_samples=640

The words are those of `ted run`, which runs in this process, in a folder that is new or holds the same run. Each part
is counted without those inside it: loading a model while a stage is opened is loading. CPU seconds are those of all
threads, and depend less than wall time on what else the machine does. Exit code: that of `ted run`.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PARTS = {
    "start-up": ("runs.run",),
    "reading the data": ("tasks.base:Task.rows", "tasks.base:Task.identity", "tasks.base:Task.test_identity"),
    "loading models": (
        "models.load:load_model", "models.load:load_config", "models.load:LoadedModel.identity",
        "models.load:offer_to_task", "models.students:load_as_saved",
    ),
    "making the student": ("runs.narrowing:make_recipe_student",),
    "tokenising": ("tasks.reading.mapped:mapped", "stages.lifecycle:read_data", "fast.states_cache:open_cache"),
    "a look at the recipe first": ("runs.run:RunOfRecipe.look",),
    "training": ("training.trainer:StageTrainer.train",),
    "starting filters": (
        "stages.filters.filter_starts:scaled_start", "stages.filters.filter_starts:least_squares_start",
    ),
    "scoring": ("training.scores.evaluation:predict",),
    "checkpoints": (
        "training.saving_trainer:SavingTrainer._save_checkpoint",
        "training.saving_trainer:SavingTrainer._load_best_model",
    ),
    "saving": (
        "stages.lifecycle:publish", "stages.lifecycle:check_folder", "stages.stage_identity:check_folder",
        "runs.best_model:publish_best",
    ),
    "report": ("cli.report:report_at_the_end",),
}  # fmt: skip
"""Part -> functions and properties of the package that do it; `start-up` is the import of a module."""
REST = "all else"
_START_UP = "start-up"
AROUND = (_START_UP, "reading the data", "loading models", "tokenising", "checkpoints", "saving")
"""What a run does around training and scoring, which is to be little."""

Clock = tuple[float, float]


class Shares:
    """Wall and CPU seconds of parts, each without the parts inside it."""

    def __init__(self, now: Callable[[], Clock] = lambda: (time.perf_counter(), time.process_time())) -> None:
        self.now = now
        self.seconds: dict[str, Clock] = {}
        self.calls: dict[str, int] = {}
        self._open = [REST]
        self._since = now()

    def _count(self) -> None:
        """Give the time since the last change to the part that was open."""
        at, name = self.now(), self._open[-1]
        before = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = before[0] + at[0] - self._since[0], before[1] + at[1] - self._since[1]
        self._since = at

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """All that happens inside belongs to a part, unless it belongs to one that is opened inside."""
        self._count()
        self.calls[name] = self.calls.get(name, 0) + (self._open[-1] != name)
        self._open.append(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, as a part."""

        @functools.wraps(function)
        def in_part(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return in_part


def watch(shares: Shares, place: str, name: str) -> None:
    """Make a function, method or property of the package a part, wherever it was imported."""
    from importlib import import_module

    module, _, path = place.partition(":")
    home: Any = import_module(f"ted_distill.{module}")
    *owners, last = path.split(".")
    for owner in owners:
        home = getattr(home, owner)
    found = vars(home)[last]
    if isinstance(found, functools.cached_property):
        found.func = shares.timed(name, found.func)
        return
    timed = shares.timed(name, found)
    setattr(home, last, timed)
    if not owners:
        ours = [loaded for known, loaded in sys.modules.items() if known.startswith("ted_distill")]
        for loaded in ours:
            for known, value in list(vars(loaded).items()):
                if value is found:
                    setattr(loaded, known, timed)


def table(shares: Shares) -> str:
    """The parts in order, then all together, and what is around training and scoring."""
    names = [name for name in (*PARTS, REST) if name in shares.seconds]
    wall, cpu = (sum(of[number] for of in shares.seconds.values()) for number in (0, 1))
    around = [shares.seconds[name] for name in AROUND if name in shares.seconds]
    rows = [(name, *shares.seconds[name], shares.calls.get(name, 0)) for name in names]
    rows += [("total", wall, cpu, 0), ("around training", sum(w for w, _ in around), sum(c for _, c in around), 0)]
    lines = [f"{'':26}{'wall s':>9}{'CPU s':>9}{'of CPU':>9}{'times':>7}"]
    for name, of_wall, of_cpu, calls in rows:
        lines.append(f"{name:26}{of_wall:9.1f}{of_cpu:9.1f}{of_cpu / cpu:9.1%}{calls or '':>7}")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Run and print the table. Returns the exit code of `ted run`."""
    shares = Shares()
    # What Python itself took before this line.
    shares.seconds[_START_UP] = 0.0, time.process_time()
    from importlib import import_module

    with shares.part(_START_UP):
        from ted_distill.cli import main as cli

        for module in ("runs.run", "runs.narrowing", "stages.filters.filter_starts", "cli.report"):
            import_module(f"ted_distill.{module}")
    for name, places in PARTS.items():
        for place in places:
            if ":" in place:
                watch(shares, place, name)
    code = cli.main(["run", *argv])
    shares._count()
    sys.stdout.write(f"\n{table(shares)}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
