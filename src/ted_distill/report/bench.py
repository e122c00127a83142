"""What `ted bench` measured, as a table and in words: on the screen, in `bench.md`, in reports and in model cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from ..output import read_json, short_name
from ..runs.table import markdown_table
from ..wording import counted, digits, parameters, size
from . import words
from .costs import weights_sums
from .folders import Reported
from .tables import Table, without_empty

BENCH_NAME, TABLE_NAME, PLOT_NAME = "bench.json", "bench.md", "bench.png"
FORMATS = {"pytorch": "PyTorch float32", "bf16": "PyTorch bf16", "onnx": "ONNX float32", "int8": "ONNX int8"}
NEARLY = 0.97
"""The share of the teacher's score that a student should keep, for the sentence on the fastest one."""
_FOLDER = "bench"


def read_bench_of(reported: Reported) -> dict[str, Any] | None:
    """The bench in the folder of a run; None if there is none, or if it is of models that are not there any more."""
    found = read_json(reported.folder / _FOLDER / BENCH_NAME)
    if not isinstance(found, dict) or not isinstance(found.get("candidates"), list):
        return None
    sums = {short_name(at): weights_sums(at) for at in map(reported.model, reported.names)}
    if any(_is_other(row, sums.get(str(row.get("name")), {})) for row in found["candidates"]):
        reported.missing.append(
            f"The bench in {_FOLDER}/ is of other models than those of this run; `ted bench` measures them again."
        )
        return None
    tested = found.get("test_content")
    if tested is not None and reported.test_contents and tested not in reported.test_contents:
        reported.missing.append(
            f"The bench in {_FOLDER}/ is of other test rows than those of this run; `ted bench` measures them again."
        )
        return None
    return found


def _is_other(row: Mapping[str, Any], sums: Mapping[str, str]) -> bool:
    """Whether a model was trained anew since it was measured; one that is not there any more is the same."""
    return bool(row.get("weights")) and bool(sums) and row["weights"] != sums


def bench_table(about: Mapping[str, Any]) -> Table:
    """A row for each model in each format."""
    unit = about["sample"]["unit"]
    columns = [
        ["model", "format", "parameters", "without embeddings", "size", about["metric"], "of teacher", "to float32"]
        + [
            "changed",
            "p50 ms",
            "p95 ms",
            f"{unit}s/s at 1",
            "times at 1",
            f"{unit}s/s at 32",
            "times at 32",
            f"CPU ms a {unit}",
        ]
    ]
    former = None
    for row in about["candidates"]:
        first, former = row["model"] != former, row["model"]
        to, one, many = row["to_teacher"] or {}, row["batch_1"], row["batch_32"]
        counts = [row["parameters"], row["parameters_without_embeddings"]] if first else [None, None]
        columns.append(
            [
                row["model"] if first else "",
                FORMATS[row["format"]],
                *map(parameters, counts),
                size(row["bytes"]),
                words.score(row["score"]),
                "" if to.get("score") is None else f"{100 * to['score']:.1f} %",
                "" if row["to_float32"] is None else _signed(row["to_float32"]),
                "" if row["changed"] is None else f"{100 * row['changed']:.2f} %",
                _with_spread(one["p50_ms"], one["p50_ms_spread"]),
                digits(one["p95_ms"]),
                digits(one["rows_per_second"]),
                _times(to.get("batch_1")),
                _with_spread(many["rows_per_second"], many["rows_per_second_spread"]),
                _times(to.get("batch_32")),
                digits(one["cpu_ms"]),
            ]
        )
    return without_empty(columns)


def short_table(about: Mapping[str, Any]) -> Table:
    """What a choice needs of `bench_table`, as narrow as a screen."""
    kept = ["model", "format", "size", about["metric"], "of teacher", "changed", "ms", "times at 1", "times at 32"]
    whole = bench_table(about)
    head = [name.replace("p50 ms", "ms") for name in whole[0]]
    places = [head.index(name) for name in kept if name in head]
    rows = [
        [row[place].partition(" (")[0] if head[place] == "ms" else row[place] for place in places] for row in whole[1:]
    ]
    return [[head[place] for place in places], *rows]


def _signed(value: float) -> str:
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}"


def _with_spread(value: float, spread: Sequence[float]) -> str:
    return f"{digits(value)} ({digits(spread[0])} to {digits(spread[1])})"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def about_bench(about: Mapping[str, Any]) -> str:
    """How it was measured."""
    sample, hardware = about["sample"], about.get("hardware") or {}
    tokens, unit = sample["tokens"], sample["unit"]
    said = [
        _about_scores(about),
        f"Times are of {counted(sample['rows'], unit)} of {tokens['shortest']} to {tokens['longest']} tokens "
        f"(median {tokens['median']:g}), spread over the lengths of the data, without tokenising: one by one, and in "
        f"batches of {sample['batch_size']} of similar length.",
        f"Candidates took turns in a drawn order, {counted(about['rounds'], 'round')}; figures are medians of "
        "the rounds, with the least and the most in brackets. CPU ms is the processor's time for a "
        f"{unit} by itself, over all threads.",
        f"{counted(about['threads'], 'thread')} on {hardware.get('processor') or 'this processor'} "
        f"({hardware.get('cores')} cores).",
    ]
    shapes = Counter(map(_shape, about["candidates"]))
    if max(shapes.values()) > 1:
        said.append("Models of one shape are as fast as each other: where their times differ, that is noise.")
    if any(row["to_teacher"] for row in about["candidates"]):
        said.append("`times` is the throughput, by 1 or 32, as a multiple of the teacher's in PyTorch float32.")
    if any(row["changed"] is not None for row in about["candidates"]):
        said.append(
            "`to float32` is how far the score is from the same model's in PyTorch float32, `changed` the share of its "
            "predictions that differ (of a regression, one minus Lin's concordance with them, or the change of the "
            "score in hundredths if that is more)."
        )
    return " ".join(said)


def verdict(about: Mapping[str, Any]) -> str:
    """The fastest student that keeps most of the teacher's score, in one sentence; empty where nothing is known."""
    rows = [row for row in about["candidates"] if row["to_teacher"] and row["role"] != "teacher"]
    rows = [row for row in rows if row["to_teacher"]["score"] is not None]
    if not rows:
        return ""
    good = [row for row in rows if row["to_teacher"]["score"] >= NEARLY]
    # Models of one shape are as fast as each other: of the fastest shape, the one with the best score.
    kept = good or rows
    of_shape: dict[tuple[Any, str], list[Mapping[str, Any]]] = {}
    for row in kept:
        of_shape.setdefault(_shape(row), []).append(row["to_teacher"])
    speeds = {shape: median(to["batch_1"] for to in rows) for shape, rows in of_shape.items()}
    best = max(kept, key=lambda row: (speeds[_shape(row)], row["to_teacher"]["score"]))
    alike, speed = of_shape[_shape(best)], _times(speeds[_shape(best)])
    those = f" (the median of {len(alike)} students of its shape)" if len(alike) > 1 else ""
    enough = f"{100 * NEARLY:.0f} % of the teacher's score"
    which = f"Of the students that keep {enough}, the fastest" if good else f"No student keeps {enough}. The fastest"
    return (
        f"{which} one {about['sample']['unit']} at a time is {best['model']} in {FORMATS[best['format']]}: "
        f"{speed} times the teacher's throughput in PyTorch float32{those} with "
        f"{100 * best['to_teacher']['score']:.1f} % of its score{_by_processor(alike)}."
    )


def _shape(row: Mapping[str, Any]) -> tuple[Any, str]:
    """What decides how fast a candidate is."""
    return row["parameters"], row["format"]


def _by_processor(alike: Sequence[Mapping[str, Any]]) -> str:
    """The speed by processor time, which a busy machine changes less."""
    known = [to["cpu"] for to in alike if to.get("cpu")]
    return f" ({_times(median(known))} times by processor time)" if known else ""


def bench_text(about: Mapping[str, Any], short: bool = False) -> str:
    """The table and what it says, for `bench.md`; `short` for the screen."""
    if short:
        times = ", times the throughput as a multiple of the teacher's in PyTorch float32"
        compared = times if any(row["to_teacher"] for row in about["candidates"]) else ""
        one = about["sample"]["unit"]
        whole = f"ms is the median of one {one} by itself{compared}; bench.md has all figures, and what they are."
        parts = [markdown_table(short_table(about)), verdict(about), f"{_about_scores(about)} {whole}"]
    else:
        parts = [markdown_table(bench_table(about)), verdict(about), about_bench(about).replace("`", "")]
    parts.append("\n".join(f"- {note}" for note in about["notes"]))
    return "\n\n".join(part for part in parts if part)


def _about_scores(about: Mapping[str, Any]) -> str:
    if not about["scored"]:
        return f"Nothing is known of scores: no rows were given, and these are {about['rows']}."
    return f"Scores are {about['metric']}{' (lower is better)' * about['lower_is_better']} on {about['rows']}."


def bench_page(about: Mapping[str, Any]) -> str:
    """`bench.md`."""
    plot = f"\n\n![{about['metric']} against latency]({PLOT_NAME})" if about["scored"] else ""
    return f"# Score, size and speed by format\n\n{bench_text(about)}{plot}\n\n```\n{about['command']}\n```\n"


def bench_names(folder: Path) -> list[Path]:
    """The files of a bench that are there."""
    return [folder / name for name in (BENCH_NAME, TABLE_NAME, PLOT_NAME) if (folder / name).is_file()]
