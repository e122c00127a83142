"""The figures of the page by its sections: plots with their captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from . import plots, texts

Figures = list[tuple[Markup, str]]
"""(plot, caption)"""


def scores(content: Mapping[str, Any]) -> Figures:
    """Each model's score with its interval; the caption says what is drawn."""
    found = content["scores"]
    lines = ["Bars: " + found["interval"] + "."] if any(one["interval"] for one in found["models"]) else []
    lines += ["Ticks: single seeds."] if any(one["of_seeds"] for one in found["models"]) else []
    lines += ["Dashed line: the teacher."]
    starts = [one for one in found["models"] if one["role"] == "start"]
    far = any(plots.is_far(one, found["models"]) for one in starts)
    lines += [f"{'Arrow' if far else 'Dotted line'}: the untrained student{', beyond the edge' * far}."] * bool(starts)
    return [(plots.scores_plot(found["models"], found["metric"], found["interval"]), " ".join(lines))]


def costs(content: Mapping[str, Any]) -> Figures:
    """Score against parameters and against speed, where they are known; for contents with costs."""
    models, metric = content["scores"]["models"], content["scores"]["metric"]
    of = content["costs"]["models"]
    figures = []
    largest = max(one["parameters"] for one in of.values())
    scale, called = (1e6, "parameters in millions") if largest >= 1e6 else (1e3, "parameters in thousands")
    for name, key, title, unit in (
        ("size", "parameters", called, scale),
        ("speed", "rows_per_second", f"{texts.unit(content)}s a second", 1.0),
    ):
        points = [
            (one["title"], of[one["name"]][key] / unit, one["score"])
            for one in models
            if one["name"] in of and of[one["name"]][key] and one["role"] != "start"
        ]
        if points:
            figures.append((plots.costs_plot(points, f"costs-{name}", title, metric), f"{metric} against {title}."))
    return figures


def bench(content: Mapping[str, Any]) -> Figures:
    """What `ted bench` measured; for contents with a bench that has scores."""
    measured = content["bench"]
    caption = f"{measured['metric']} against latency; what no other is both faster and better than is filled."
    return [(plots.bench_plot(measured), caption)]


def heads(content: Mapping[str, Any]) -> Figures:
    """The scores of Stage I's filter heads; for contents with such."""
    found = content["filter_heads"]
    return [(plots.heads_plot(found), f"{found['metric']} of the filter heads by block.")]


def training(content: Mapping[str, Any]) -> Figures:
    """Scores while the students were trained; then losses and layer losses of each training."""
    curves, metric = content["curves"], content["scores"]["metric"]
    figures = []
    students = {
        title: of["scores"][metric] for title, of in curves.items() if of["scores"] and of["name"] != "finetune_teacher"
    }
    if students:
        title, level = f"{metric} on the validation rows", _teacher_level(content)
        figure = plots.curves_plot(students, "validation", title, metric, level)
        figures.append((figure, f"{title} while the students were trained."))
    for title, of in curves.items():
        if of["losses"]:
            figure = plots.curves_plot(of["losses"], f"loss-{of['name']}", f"Loss of {title}", "loss", log=True)
            figures.append((figure, f"{title}: loss and its terms."))
        if of["pairs"]:
            pairs = {f"pair {pair}": curve for pair, curve in of["pairs"].items()}
            name = f"pairs-{of['name']}"
            figure = plots.curves_plot(pairs, name, f"Layer loss of {title} by pair", "layer loss", log=True)
            figures.append(
                (figure, f"{title}: layer loss of each pair, teacher's block \N{RIGHTWARDS ARROW} student's.")
            )
    return figures


def _teacher_level(content: Mapping[str, Any]) -> tuple[str, float] | None:
    """The teacher's score, if it is of the validation rows, too."""
    teacher = [one for one in content["scores"]["models"] if one["role"] == "teacher"]
    on_validation = "validation" in content["scores"]["rows"]
    return ("teacher", teacher[0]["score"]) if teacher and on_validation else None
