"""`bench`: what checkpoints score, weigh and take in every format, side by side; one table, one plot.

FOLDER/bench.json   everything that was measured, for programs
FOLDER/bench.md     the table, and how it was measured
FOLDER/bench.png    score against latency, if there are scores and matplotlib
FOLDER/stage.json   the sums of these files
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..entries import entry
from ..errors import InputError, collect, raise_if_any
from ..export.folders import check_folder
from ..export.requirements import package_versions
from ..export.which_task import Test
from ..models.given import Model, as_name
from ..models.load import ModelArguments
from ..models.trying.known import knowing_models
from ..output import (
    Need,
    check_space,
    command,
    locked,
    publication,
    read_json,
    short_name,
    versions,
    write_json,
)
from ..output.files import partial_folder
from ..output.processes import process_count
from ..progress import busy, showing
from ..report.bench import BENCH_NAME, PLOT_NAME, TABLE_NAME, bench_page
from ..report.costs import weights_sums
from ..report.hardware import hardware
from ..tasks import Task, TaskArguments
from ..tasks.base import TEST
from .arguments import BenchArguments, Format
from .cards import check_cards, write_cards
from .figures import pareto_front, to_teacher
from .formats import FORMATS, OF_FILES, chosen_formats
from .ground import Ground, find_ground
from .opened import Opened, open_candidate, write_files
from .scoring import Row, scored, shared_metric
from .speed import timed

logger = logging.getLogger(__name__)

_STAGE = "bench"


@dataclass(frozen=True)
class Benched:
    """A published bench.

    Attributes:
        about: what `bench.json` holds.
    """

    folder: Path
    about: dict[str, Any]

    @property
    def candidates(self) -> list[Row]:
        """What was measured of each model in each format."""
        return list(self.about["candidates"])


def read_bench(folder: str | Path) -> Benched:
    """A bench that was published earlier. Raises `InputError` for a folder that holds none."""
    about = read_json(Path(folder) / BENCH_NAME)
    if not isinstance(about, dict) or "candidates" not in about:
        raise InputError(f"bench: expected a folder of `ted bench`, got {folder}; measure something first")
    return Benched(Path(folder), about)


@entry
@knowing_models()
def bench(
    checkpoints: Model | Sequence[Model],
    output_dir: str | Path | None = None,
    *,
    teacher: Model | None = None,
    formats: Sequence[Format] | None = None,
    task: TaskArguments | Task | str | None = None,
    test: Test | None = None,
    rounds: int = 7,
    rows: int = 128,
    threads: int = 1,
    cards: bool = False,
    model_arguments: ModelArguments | None = None,
) -> Benched:
    """Measure score, size, latency and throughput of checkpoints in several formats, on the CPU of this machine.

    Args:
        checkpoints: folders, Hub ids, (model, tokenizer) or folders of `ted export`; or the folder of one finished run
            or comparison, whose teacher, students and rows are taken.
        output_dir: the folder to publish [RUN/bench, or the first checkpoint's name and `-bench`, beside it].
        teacher: the model that all others are compared with, in PyTorch float32.
        formats: some of `pytorch`, `bf16`, `onnx` and `int8` [all that this machine runs well].
        task: a task with rows, its arguments or its name [that of the run, of the checkpoint's stage, or of its head].
        test: rows to score on, and to time: a recipe, a data file, or rows in memory [the run's; or texts of random
            words, without a score].
        rounds: how often each candidate has its turn.
        rows: the most rows of a turn.
        threads: that a model may use while it is timed.
        cards: write the figures of each student into a section of its `README.md`.

    Raises:
        InputError: packages are missing, or a model, the rows or the folder do not fit; with all problems.
        TrainingError: a model's logits are no numbers, or the disk is full.
    """
    arguments = BenchArguments(rounds=rounds, rows=rows, threads=threads, cards=cards)
    if process_count() > 1:
        raise InputError("bench: expected one process, got several; start it without torchrun")
    given = [checkpoints] if isinstance(checkpoints, (str, Path)) or _is_loaded(checkpoints) else [*checkpoints]
    problems: list[str] = []
    kinds: list[Format] = []
    notes: list[str] = []
    with collect(problems):
        kinds, notes = chosen_formats(formats)
    ground = None
    with collect(problems):
        places = [as_name(one) for one in given]
        loading = model_arguments or ModelArguments()
        ground = find_ground(places, None if teacher is None else as_name(teacher), task, test, loading)
    raise_if_any(problems)
    assert ground is not None
    folder = Path(output_dir) if output_dir is not None else ground.folder
    with collect(problems):
        check_folder(folder, _STAGE, [one.place for one in ground.candidates])
    with collect(problems):
        if cards:
            check_cards(ground.candidates)
    raise_if_any(problems)
    with showing(), locked(folder):
        about = _measured(ground, kinds, notes, arguments, folder, asked=formats is not None)
        with publication(folder, _manifest(ground)) as partial:
            _write(partial, about)
    if cards:
        write_cards(ground.candidates, about)
    return Benched(folder, about)


def _is_loaded(given: Any) -> bool:
    """Whether a model is in memory: (model, tokenizer), or a pipeline of both."""
    return hasattr(given, "model") or (isinstance(given, tuple) and bool(given) and hasattr(given[0], "state_dict"))


def _measured(
    ground: Ground, kinds: list[Format], notes: list[str], arguments: BenchArguments, folder: Path, asked: bool
) -> dict[str, Any]:
    """Everything that is measured, as `bench.json` holds it.

    Args:
        asked: the formats were asked for, so none may be left out.
    """
    if not ground.made_up and find_spec("matplotlib") is None:
        notes.append(f"{PLOT_NAME} needs matplotlib, which is missing: pip install 'ted-distill[report]'.")
    with partial_folder(folder) as files:
        opened = _opened(ground, kinds, files)
        metric = shared_metric(opened, ground)
        _write_files(opened, files, asked)
        notes = [*notes, *ground.notes, *(note for one in opened for note in one.notes)]
        if metric != ground.task.metric:
            notes.append(
                f"The models' vocabularies differ: they are compared by {metric}, as {ground.task.metric} is of tokens."
            )
        _say(notes)
        scores = {one.candidate.title: _scored(one, ground, metric) for one in opened}
        _say(of_scores := [note for one in opened for note in one.notes if note not in notes])
        speeds, sample = timed(opened, ground, arguments)
        rows = [
            _row(one, kind) | scores[one.candidate.title][kind] | speeds[one.candidate.title, kind]
            for one in opened
            for kind in one.formats
        ]
    task = ground.task
    lower = metric in task.lower_is_better
    _compare(rows, lower)
    return {
        "task": task.name,
        "metric": metric,
        "lower_is_better": lower,
        "rows": ground.source,
        "test_content": task.test_identity if ground.split == TEST else None,
        "scored": not ground.made_up,
        "sample": sample,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "device": "cpu",
        "notes": [*notes, *of_scores],
        "candidates": rows,
        "hardware": hardware(),
        "versions": versions() | (package_versions() if {*OF_FILES} & {row["format"] for row in rows} else {}),
        "command": command(),
    }


def _say(notes: Sequence[str]) -> None:
    for note in notes:
        logger.warning("bench: %s", note)


def _opened(ground: Ground, kinds: list[Format], files: Path) -> list[Opened]:
    """All candidates, loaded. Raises `InputError` with the problems of all, also that there is no room for `files`."""
    problems: list[str] = []
    opened: list[Opened] = []
    for candidate in ground.candidates:
        # All others are compared with the teacher in PyTorch.
        wanted = [kind for kind in FORMATS if kind in kinds or (candidate.is_teacher and kind == "pytorch")]
        with collect(problems), busy(f"loading {candidate.title}"):
            opened.append(open_candidate(candidate, ground.task, ground.split, wanted))
    if not {*OF_FILES}.isdisjoint(kinds):
        sizes = [4 * one.loaded.model.num_parameters() for one in opened if one.loaded is not None]
        with collect(problems):
            check_space([Need("ONNX files, while they are measured", files, int(1.25 * sum(sizes)))])
    raise_if_any(problems)
    return opened


def _write_files(opened: list[Opened], files: Path, asked: bool) -> None:
    """Write the formats that are files. Raises `InputError` with the problems of all, before anything is scored."""
    problems: list[str] = []
    for number, one in enumerate(opened):
        with collect(problems):
            (files / str(number)).mkdir()
            write_files(one, files / str(number), required=asked)
    raise_if_any(problems)


def _scored(opened: Opened, ground: Ground, metric: str) -> dict[Format, Row]:
    logger.warning("== scoring %s on %s: %s", opened.candidate.title, ground.source, ", ".join(opened.formats))
    return scored(opened, ground, metric)


def _row(opened: Opened, kind: Format) -> Row:
    """What a candidate is, before anything is measured."""
    candidate, counts = opened.candidate, opened.parameters
    total, embeddings = counts["parameters"], counts["embedding_parameters"]
    return {
        "model": candidate.title,
        "name": short_name(candidate.place),
        "role": "teacher" if candidate.is_teacher else "student",
        "format": kind,
        "parameters": total,
        "parameters_without_embeddings": None if total is None or embeddings is None else total - embeddings,
        "bytes": opened.size(kind),
        "weights": weights_sums(candidate.place),
    }


def _compare(rows: list[Row], lower_is_better: bool) -> None:
    """Add to each row how it compares with the teacher in PyTorch, and whether another is both faster and better."""
    teacher = next((row for row in rows if row["role"] == "teacher" and row["format"] == "pytorch"), None)
    points = {
        str(number): (row["batch_1"]["p50_ms"], row["score"])
        for number, row in enumerate(rows)
        if row["score"] is not None
    }
    front = pareto_front(points, lower_is_better)
    for number, row in enumerate(rows):
        row["to_teacher"] = None if teacher is None else to_teacher(row, teacher, lower_is_better)
        row["on_front"] = str(number) in front


def _manifest(ground: Ground) -> dict[str, Any]:
    return {"stage": _STAGE, "task": ground.task.name, "command": command()}


def _write(folder: Path, about: dict[str, Any]) -> None:
    write_json(folder / BENCH_NAME, about)
    (folder / TABLE_NAME).write_text(bench_page(about), encoding="utf-8")
    if about["scored"] and find_spec("matplotlib") is not None:
        from ..report.plots import save_bench_plot

        save_bench_plot(about, folder / PLOT_NAME)
