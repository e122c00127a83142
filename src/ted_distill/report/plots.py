"""The plots of a report as inline SVG. Every plot is a small figure of its own, which a page can set side by side.

Lines and dots differ in shape as well as in colour, so that they are told apart in grey, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..wording import digits
from .bench import FORMATS, NEARLY
from .curves import Curve
from .svg import inline_svg

_SIZE = (4.3, 2.9)
# Okabe and Ito's palette, for all kinds of colour vision; the order alternates dark and light.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444", "#999999"]
_LINES: list[Any] = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (7, 3))]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
_FAR = 30
"""Ratio of the largest value to the smallest above which a logarithmic scale shows more."""
_STYLE = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.4,
    "path.simplify": True,
}


@contextmanager
def _figure(height: float = _SIZE[1]) -> Iterator[tuple[Figure, Axes]]:
    # Not with pyplot, which would choose a screen and keep figures.
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
        yield figure, axes


def scores_plot(models: Sequence[Mapping[str, Any]], metric: str, interval: str) -> Markup:
    """A dot for each model with its interval as a bar, a tick for each seed, and the teacher's score as a line.

    A student before training that is far away (`is_far`) is an arrow at the edge, so that there is room for the others.
    """
    with _figure(height=0.75 + 0.34 * len(models)) as (figure, axes):
        low, _ = _ends(models)
        for place, one in enumerate(models):
            if is_far(one, models):
                left = one["score"] < low
                text = f"◂ {one['score']:.2f}" if left else f"{one['score']:.2f} ▸"
                axes.text(not left, place, text, transform=axes.get_yaxis_transform(), va="center",
                          ha="left" if left else "right", color="#333333")  # fmt: skip
                continue
            trained = one["role"] in ("method", "student")
            colour = "#0072B2" if trained else "#333333"
            if one["interval"]:
                axes.plot(one["interval"], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
            if one["of_seeds"]:
                axes.plot(one["of_seeds"], [place] * len(one["of_seeds"]), "|", color="#777777", markersize=7)
            marker = {"teacher": "D", "start": "X"}.get(one["role"], "o")
            axes.plot([one["score"]], [place], marker, color=colour, markersize=6.5)
        for role, line in (("teacher", "--"), ("start", ":")):
            for one in models:
                if one["role"] == role and not is_far(one, models):
                    axes.axvline(one["score"], color="#333333", linestyle=line, linewidth=1, zorder=0)
        axes.set_yticks(range(len(models)), [_clipped(one["title"]) for one in models])
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(metric)
        said = ", ".join(f"{one['title']} {one['score']:.2f}{_between(one['interval'])}" for one in models)
        return inline_svg(figure, "scores", f"{metric} by model", f"Dots with bars, the {interval}: {said}.")


def is_far(one: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> bool:
    """Whether this is a student before training whose score would leave others a third of the plot or less."""
    low, high = _ends(models)
    return one["role"] == "start" and not low - 2 * (high - low) <= one["score"] <= high + 2 * (high - low)


def _ends(models: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The lowest and the highest number that is shown of models other than the student before training."""
    shown = [one for one in models if one["role"] != "start"] or models
    numbers = [number for one in shown for number in (one["score"], *(one["interval"] or ()), *one["of_seeds"])]
    return min(numbers), max(numbers)


def _between(interval: Sequence[float] | None) -> str:
    return f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else ""


def curves_plot(
    curves: Mapping[str, Curve], name: str, title: str, y: str, line: tuple[str, float] | None = None, log: bool = False
) -> Markup:
    """Curves over steps, each with a line style of its own.

    Args:
        name: of the plot, unlike that of any other.
        line: (name, height) of a level to compare with.
        log: a logarithmic scale, if values are that far apart.
    """
    with _figure() as (figure, axes):
        for number, (of, curve) in enumerate(curves.items()):
            steps, values = zip(*curve, strict=True)
            axes.plot(
                steps,
                values,
                color=_COLOURS[number % len(_COLOURS)],
                linestyle=_LINES[number % len(_LINES)],
                marker=_MARKERS[number % len(_MARKERS)],
                markevery=max(1, len(steps) // 6),
                markersize=4,
                linewidth=1.4,
                label=_clipped(of),
            )
        if line is not None:
            axes.axhline(line[1], color="#333333", linestyle="--", linewidth=1, label=_clipped(line[0]))
        if log and _spread(curves) > _FAR:
            axes.set_yscale("log")
            # Not as powers of ten, which would be several pieces of text.
            axes.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            y = f"{y} (log scale)"
        axes.set_xlabel("step")
        axes.set_ylabel(y)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        _legend(figure, axes)
        ends = ", ".join(f"{of} ends at {curve[-1][1]:.4g}" for of, curve in curves.items())
        return inline_svg(figure, name, title, f"{y} over steps: {ends}.")


def heads_plot(heads: Mapping[str, Any]) -> Markup:
    """Score of the filter heads by block, teacher and student, with what needs no input as a line."""
    with _figure() as (figure, axes):
        for number, one in enumerate(heads["models"]):
            blocks = [int(block) for block in one["blocks"]]
            colour = _COLOURS[number]
            axes.plot(
                blocks,
                list(one["blocks"].values()),
                color=colour,
                linestyle=_LINES[number],
                marker=_MARKERS[number],
                markersize=5,
                label=f"{one['owner']}'s filter heads",
            )
        if heads["uninformed"] is not None:
            axes.axhline(heads["uninformed"], color="#777777", linestyle=":", label="the same for every row")
        axes.set_xlabel("block")
        axes.set_ylabel(heads["metric"])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(figure, axes)
        said = "; ".join(
            f"{one['owner']}: " + ", ".join(f"block {block} {score:.2f}" for block, score in one["blocks"].items())
            for one in heads["models"]
        )
        return inline_svg(figure, "heads", "Scores of the filter heads by block", said + ".")


def costs_plot(points: Sequence[tuple[str, float, float]], name: str, x: str, metric: str) -> Markup:
    """Score against size or speed: a dot for each model, with its name.

    Args:
        points: (model, cost, score).
    """
    with _figure() as (figure, axes):
        axes.margins(y=0.15)
        for number, (title, cost, score) in enumerate(points):
            axes.plot(
                [cost], [score], _MARKERS[number % len(_MARKERS)], color=_COLOURS[number % len(_COLOURS)],
                markersize=6.5, label=_clipped(title),
            )  # fmt: skip
        axes.set_xlim(0, 1.08 * max(cost for _, cost, _ in points))
        axes.set_xlabel(x)
        axes.set_ylabel(metric)
        _legend(figure, axes)
        said = ", ".join(f"{title}: {cost:g}, {score:.2f}" for title, cost, score in points)
        return inline_svg(figure, name, f"{metric} against {x}", said + ".")


def bench_plot(about: Mapping[str, Any]) -> Markup:
    """Score against latency of what `ted bench` measured: a colour for each model, a shape for each format."""
    rows = [row for row in about["candidates"] if row["score"] is not None]
    with _figure(height=3.6) as (figure, axes):
        _draw_bench(figure, axes, rows, about)
        said = ", ".join(
            f"{row['model']} in {FORMATS[row['format']]} {digits(row['batch_1']['p50_ms'])} ms, {row['score']:.2f}"
            for row in rows
        )
        return inline_svg(figure, "bench", f"{about['metric']} against latency by model and format", said + ".")


def save_bench_plot(about: Mapping[str, Any], file: Path) -> None:
    """The same as a picture of its own."""
    rows = [row for row in about["candidates"] if row["score"] is not None]
    with _figure(height=3.6) as (figure, axes):
        figure.set_size_inches(6.4, 4.4)
        _draw_bench(figure, axes, rows, about)
        figure.savefig(file, dpi=160, metadata={"Software": None})


def _draw_bench(figure: Figure, axes: Axes, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    models = list(dict.fromkeys(row["model"] for row in rows))
    kinds = [kind for kind in FORMATS if any(row["format"] == kind for row in rows)]
    colours = {model: _COLOURS[number % len(_COLOURS)] for number, model in enumerate(models)}
    shapes = dict(zip(FORMATS, _MARKERS, strict=False))
    front = sorted((row["batch_1"]["p50_ms"], row["score"]) for row in rows if row["on_front"])
    axes.plot(*zip(*front, strict=True), color="#444444", linewidth=1, zorder=1)
    for row in rows:
        axes.plot(
            [row["batch_1"]["p50_ms"]], [row["score"]], shapes[row["format"]], color=colours[row["model"]],
            markersize=7, fillstyle="full" if row["on_front"] else "none", markeredgewidth=1.4,
        )  # fmt: skip
    handles = [Line2D([], [], color=colours[model], linewidth=4, label=_clipped(model)) for model in models]
    handles += [
        Line2D([], [], marker=shapes[kind], color="#333333", linestyle="", fillstyle="none", label=FORMATS[kind])
        for kind in kinds
    ]
    handles.append(Line2D([], [], color="#444444", linewidth=1, label="no other is faster and better"))
    teacher = next((row["score"] for row in rows if row["role"] == "teacher" and row["format"] == "pytorch"), None)
    if teacher is not None and teacher > 0:
        kept = teacher / NEARLY if about["lower_is_better"] else teacher * NEARLY
        axes.axhline(kept, color="#333333", linestyle=":", linewidth=1, zorder=0)
        label = f"{100 * NEARLY:.0f} % of the teacher's score"
        handles.append(Line2D([], [], color="#333333", linestyle=":", linewidth=1, label=label))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, borderaxespad=0.1, columnspacing=1.2)
    # Not as powers of ten, which would be several pieces of text.
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"milliseconds for one {about['sample']['unit']}, median (log scale)")
    axes.set_ylabel(about["metric"])
    axes.margins(x=0.08, y=0.1)


def _spread(curves: Mapping[str, Curve]) -> float:
    """The largest value of all curves divided by the smallest; 0 if there is one that has no logarithm."""
    values = [value for curve in curves.values() for _, value in curve]
    return max(values) / min(values) if min(values) > 0 else 0.0


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the plot, where no line is."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper left", ncols=2, borderaxespad=0.1, columnspacing=1.2)


def _clipped(text: str) -> str:
    """A name that fits beside a plot; `$` would start a formula."""
    text = text if len(text) <= 26 else text[:25] + "\N{HORIZONTAL ELLIPSIS}"
    return text.replace("$", r"\$")
