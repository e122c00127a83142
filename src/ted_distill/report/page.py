"""`report.html`: one file with sentences, tables, plots and rows; no script, and nothing that is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from . import bench, plots, tables, texts, words
from .page_style import STYLE

_TEXT = 400


def page(content: Mapping[str, Any]) -> str:
    """The page; the most important things first."""
    title = escape(content["title"])
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        # No text of a row could run or fetch anything, even if it were not escaped.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}: report</title><style>{STYLE}</style>"
    )
    body = "\n".join(part for part in _parts(content) if part)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n'


def _parts(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h1>{escape(content['title'])}</h1>"
    yield f'<p class="lead">{escape(content["sentence"])}</p>'
    yield _list(content["verdicts"], "verdict")
    yield _heading("Scores")
    yield _table(tables.scores_table(content))
    yield _paragraph(texts.about_scores(content))
    yield _scores(content)
    yield _notes(content)
    if pairs := tables.pairs_table(content):
        yield _heading("Which methods can be told apart") + _table(pairs, left=2)
    yield _costs(content)
    yield _bench(content["bench"])
    yield _heads(content)
    yield _training(content)
    yield _differences(content)
    yield _heading("How it was made")
    yield _facts(content)
    if content["missing"]:
        yield _heading("What is missing") + _list(content["missing"])


# --- parts --------------------------------------------------------------------------------------------------------


def _scores(content: Mapping[str, Any]) -> str:
    scores = content["scores"]
    lines = ["Bars: " + scores["interval"] + "."] if any(one["interval"] for one in scores["models"]) else []
    lines += ["Ticks: single seeds."] if any(one["of_seeds"] for one in scores["models"]) else []
    lines += ["Dashed line: the teacher."]
    starts = [one for one in scores["models"] if one["role"] == "start"]
    far = any(plots.is_far(one, scores["models"]) for one in starts)
    lines += [f"{'Arrow' if far else 'Dotted line'}: the untrained student{', beyond the edge' * far}."] * bool(starts)
    figure = plots.scores_plot(scores["models"], scores["metric"], scores["interval"])
    return _figures([(figure, " ".join(lines))])


def _notes(content: Mapping[str, Any]) -> str:
    """How weights were chosen, and what searches chose."""
    chosen = [f"{title}: {text}" for title, text in content["scores"]["chosen"].items()]
    searched = tables.chosen_table(content)
    said = _table(searched, left=2) if searched else ""
    if chosen:
        said += f"<details><summary>How each model's weights were chosen</summary>{_list(chosen)}</details>"
    return said


def _costs(content: Mapping[str, Any]) -> str:
    table = tables.costs_table(content)
    if not table:
        return ""
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
    said = _heading("Size and speed") + _table(table) + _paragraph(texts.about_costs(content))
    return said + _figures(figures)


def _bench(measured: Mapping[str, Any] | None) -> str:
    """What `ted bench` measured."""
    if not measured:
        return ""
    said = _heading("Formats") + _paragraph(bench.verdict(measured)) + _table(bench.bench_table(measured), left=2)
    said += _paragraph(bench.about_bench(measured).replace("`", ""))
    if not measured["scored"]:
        return said
    caption = f"{measured['metric']} against latency; what no other is both faster and better than is filled."
    return said + _figures([(plots.bench_plot(measured), caption)])


def _heads(content: Mapping[str, Any]) -> str:
    heads = content["filter_heads"]
    if not heads:
        return ""
    figure = (plots.heads_plot(heads), f"{heads['metric']} of the filter heads by block.")
    said = _heading("Filter heads by block") + _paragraph(texts.about_heads(content))
    return said + _figures([figure]) + _folded("The same as a table", _table(tables.heads_table(content)))


def _training(content: Mapping[str, Any]) -> str:
    curves, scores = content["curves"], content["scores"]
    if not curves:
        return ""
    figures = []
    metric = scores["metric"]
    students = {
        title: of["scores"][metric] for title, of in curves.items() if of["scores"] and of["name"] != "finetune_teacher"
    }
    level = _teacher_level(content)
    if students:
        figure = plots.curves_plot(students, "validation", f"{metric} on the validation rows", metric, level)
        figures.append((figure, f"{metric} on the validation rows while the students were trained."))
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
    return _heading("Training") + _paragraph(texts.about_curves(content)) + _figures(figures)


def _teacher_level(content: Mapping[str, Any]) -> tuple[str, float] | None:
    """The teacher's score, if it is of the validation rows, too."""
    teacher = [one for one in content["scores"]["models"] if one["role"] == "teacher"]
    on_validation = "validation" in content["scores"]["rows"]
    return ("teacher", teacher[0]["score"]) if teacher and on_validation else None


def _differences(content: Mapping[str, Any]) -> str:
    said = ""
    if content["agreement"]:
        said += _heading("Agreement with the teacher") + _table(tables.agreement_table(content))
    if not content["disagreements"]:
        return said
    said += _heading("Where student and teacher differ") + _paragraph(texts.about_differences(content))
    return said + "\n".join(map(_row, content["disagreements"].get("shown", [])))


def _row(one: Mapping[str, Any]) -> str:
    """A row that differs: what was read, the label, and both predictions."""
    read = "".join(
        f'<p><span class="name">{escape(name)}</span> {escape(words.cut(text, _TEXT))}</p>'
        for name, text in one["texts"].items()
    )
    said = "".join(
        f"<dt>{escape(name)}</dt><dd{_right(name, one)}>{escape(words.cut(value, _TEXT))}</dd>"
        for name, value in texts.difference_line(one)
    )
    return f'<article><div class="read"><p class="number">row {one["row"]}</p>{read}</div><dl>{said}</dl></article>'


def _right(name: str, one: Mapping[str, Any]) -> str:
    return ' class="right"' if one["right"] in (name, "both") and name in ("teacher", "student") else ""


def _facts(content: Mapping[str, Any]) -> str:
    found = content["facts"]
    rows = tables.facts_table(content)[1:]
    said = _table([["", ""], *rows], left=2) if rows else ""
    if found["commands"]:
        said += f"<h3>Commands</h3><pre>{escape(chr(10).join(found['commands']))}</pre>"
    if found["recipe"]:
        said += f"<h3>Recipe</h3><pre>{escape(found['recipe'].strip())}</pre>"
    return said


# --- elements -----------------------------------------------------------------------------------------------------


def _heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _list(lines: Sequence[str], kind: str = "") -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    named = f' class="{kind}"' if kind else ""
    return f"<ul{named}>{items}</ul>"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first columns are text, and whose others are numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        named = ["" if column < left else ' class="n"' for column in range(len(row))]
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(named, row, strict=True))

    head = f"<thead><tr>{cells(rows[0], 'th')}</tr></thead>" if any(rows[0]) else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows[1:])
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _figures(figures: Sequence[tuple[str, str]]) -> str:
    """(plot, caption) side by side where there is room."""
    parts = (f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for svg, caption in figures)
    return f'<div class="figures">{"".join(parts)}</div>'
