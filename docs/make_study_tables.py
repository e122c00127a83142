"""Writes the study's tables and its plot from what `ted compare` measured, and the table of int8 from `ted bench`.

python docs/make_study_tables.py

Each file docs/study/NAME.json is the `compare.json` of one comparison, as it was written. The tables stand between
lines `<!-- study NAME -->` and `<!-- end -->`; `<!-- study wide -->` is the table of all students that are as wide as
their teacher, `<!-- study narrow -->` that of the others.
The plot is docs/_static/study.svg. docs/study/bench/NAME.json is the `bench.json` of one seed's students, and
`<!-- int8 -->` the table of all of these; `<!-- bench NAME -->` is one of them. docs/study/epochs/NAME_N.json are
comparisons that differ in the number of epochs N alone, and `<!-- epochs NAME -->` the table of these.
docs/study/changes/NAME/CHANGE.json are comparisons that differ from docs/study/NAME.json in one thing, and
`<!-- changes NAME -->` is the table of what that does to each method, `<!-- published -->` that of TED as it was
published. `<!-- grid NAME -->` is what the grid of
docs/study/NAME.json scored on the rows held out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ted_distill.report.bench import bench_table
from ted_distill.runs.compare.verdicts import notes, table, verdicts
from ted_distill.runs.table import markdown_table
from ted_distill.stages.methods import METHODS
from ted_distill.wording import counted

DOCS = Path(__file__).parent
PLOT = DOCS / "_static" / "study.svg"
PAGES = (
    *(DOCS / f"{name}.md" for name in ("study", "study-tasks", "study-choices", "results", "deploy")),
    DOCS.parent / "README.md",
)
TITLES = {
    "stsb": "STS-B (Spearman)",
    "stsb_256": "STS-B, student of width 256 (Spearman)",
    "sst2": "SST-2, 10,000 rows (accuracy)",
    "sst2_256": "SST-2, student of width 256 (accuracy)",
    "mrpc": "MRPC (F1)",
    "mrpc_256": "MRPC, student of width 256 (F1)",
    "cola": "CoLA (Matthews)",
    "cola_256": "CoLA, student of width 256 (Matthews)",
    "wnut_17": "WNUT-17 (F1 of names)",
    "wnut_17_256": "WNUT-17, student of width 256 (F1)",
    "squad_lite": "SQuAD 1.1, 4,000 questions (F1)",
    "wikitext-2": "WikiText-2 (perplexity)",
    "tickets": "400 tickets, 2 epochs (accuracy)",
}
"""The comparisons of README's table, in its order; other files have a table of their own only."""
BENCHED = TITLES | {"demo": "`ted demo`: a small DeBERTa, made-up questions (F1)"}
_NO_STAGE_ONE = "`learn_filters.max_steps=1`, `learn_filters.learning_rate=1e-12`"
CHANGES = {
    "frozen": "the student's filters stay as they start (`distill.train_filters=false`)",
    "untaught": f"no Stage I: the teacher's filters stay scaled identities ({_NO_STAGE_ONE})",
    "random": f"random filters of the teacher (`filter_init=normal`, {_NO_STAGE_ONE})",
    "identity": "no filters of the teacher (`lwd.student_filters=least_squares`)",
    "random_student": "the student's filters start at random (`ted.student_filters=random`)",
    "learned_student": "the student's filters learnt in a Stage I of its own (`ted.student_filters=learned`)",
    "mean_token": "heads read the mean of all tokens (`filter_token=mean`)",
    "short": "Stage I of 5 epochs (`learn_filters.num_train_epochs=5`)",
    "shifted": "pairs shifted by one block (`pairs=[1:1,3:2,5:3]`)",
    "lower": "blocks 1, 2, 3 in place of 2, 4, 6 (`student_layers=[1,2,3]`)",
    "spaced": "blocks 2, 4, 6 in place of 1, 2, 3 (`student_layers=[2,4,6]`)",
    "own": "blocks 1, 2, 3, each paired with the one it was copied from (`pairs=[1:1,2:2,3:3]`)",
    "last_pair": "the last pair alone (`pairs=[6:3]`)",
    "pretrained": "the start is of the model before its fine-tuning (`student=MODEL start_from=pretrained`)",
    "pretrained_low_rate": "the same with a rate of 1e-4 (`distill.learning_rate=1e-4`)",
    "decay": "the layers' weight falls to 0 (`distill.layer_schedule=decay`)",
    "double_rate": "twice the rate, the default before (`distill.learning_rate=1e-3`)",
    "low_rate": "a lower rate (`distill.learning_rate=2e-4`)",
}
"""Of each change, what it is. `identity` is method lwd, which is TED without filters of the teacher."""
PUBLISHED = "published"
"""The change that is TED's published recipe, of which there is a table by task."""
COLUMNS = ("alone", "kd", "lwd", "attention", "ted", "ted_attention")
NAMES = {name: method.title for name, method in METHODS.items()} | {"alone": "alone"}
_EPOCHS = 3
"""Of the students' training, by default."""
_ACROSS = 3
"""Panels of the plot beside each other."""
_LEFT_OUT = re.compile(r"parameters|without embeddings|changed|\w+/s at (1|32)")
_SAID_ONCE = ("The intervals draw", "p: the larger one")
"""Beginnings of notes that are true of every table: docs/study.md says it, "How to read the tables"."""
_TABLES = "study|int8|bench|epochs|changes|grid|published"
_PLACE = re.compile(rf"(<!-- ({_TABLES}) ?([\w-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def measured() -> dict[str, dict[str, Any]]:
    """Every comparison there is, by name."""
    files = sorted((DOCS / "study").glob("*.json"))
    read = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    return {name: {**content, "verdicts": verdicts(content)} for name, content in read.items()}


def page_of(one: dict[str, Any]) -> str:
    """A comparison's table, how its numbers came about, and what it tells apart; the other pairs are folded away."""
    sentences, pairs = one["verdicts"], one["comparisons"]
    apart = [line for line, pair in zip(sentences, pairs, strict=False) if pair["told_apart"]]
    level = [line for line, pair in zip(sentences, pairs, strict=False) if not pair["told_apart"]]
    shown = [*apart, *sentences[len(pairs) :]]
    own = [line for line in notes(one) if not line.startswith(_SAID_ONCE)]
    parts = [table(one), "\n".join(own), "\n".join(f"- {line}" for line in shown)]
    if level:
        summary = f"{counted(len(level), 'pair')} that cannot be told apart"
        listed = "\n".join(f"- {line}" for line in level)
        parts.append(f"<details>\n<summary>{summary}</summary>\n\n{listed}\n\n</details>")
    return "\n\n".join(part for part in parts if part)


def table_of_all(found: dict[str, dict[str, Any]]) -> str:
    """A row for each task: the teacher, and the mean of each method with the interval that seeds and rows give it."""
    shown = [name for name in TITLES if name in found]
    methods = [method for method in COLUMNS if any(method in found[name]["means"] for name in shown)]
    rows = [["task (score)", "seeds", "teacher", *(NAMES[method] for method in methods)]]
    rows += [[TITLES[name], *_cells(found[name], methods)] for name in shown]
    return markdown_table(rows)


def _cells(one: dict[str, Any], methods: list[str]) -> list[str]:
    """Of one comparison: the number of seeds, the teacher's score, and each method's."""
    best = (min if one.get("lower_is_better") else max)(
        one["means"][method] for method in methods if method in one["means"]
    )
    teacher = f"{one['scores']['teacher'][one['metric']]:.1f}"
    cells = [_cell(one, method, one["means"].get(method) == best) for method in methods]
    return [str(len(one["seeds"])), teacher, *cells]


def _cell(one: dict[str, Any], method: str, best: bool) -> str:
    if method not in one["means"]:
        return ""
    low, high = one["intervals"][method]
    mean = f"{one['means'][method]:.1f}"
    return f"{f'**{mean}**' if best else mean} ({low:.1f}\N{EN DASH}{high:.1f})"


def benched() -> dict[str, dict[str, Any]]:
    """Every bench there is, by name of the task, in the order of README's table; others follow."""
    files = {file.stem: file for file in sorted((DOCS / "study" / "bench").glob("*.json"))}
    names = [*(name for name in BENCHED if name in files), *(name for name in files if name not in BENCHED)]
    return {name: json.loads(files[name].read_text(encoding="utf-8")) for name in names}


def table_of_int8(benches: dict[str, dict[str, Any]]) -> str:
    """What int8 costs each model, how small and fast it is beside the teacher, and how exact its file in float32 is."""
    rows = [
        ["task", "model", "PyTorch", "ONNX int8", "change", "predictions changed", "of the teacher", "size",
         "times at 1", "times at 32", "largest difference in float32"],
    ]  # fmt: skip
    for task, about in benches.items():
        models: dict[str, dict[str, Any]] = {}
        for row in about["candidates"]:
            models.setdefault("teacher" if row["role"] == "teacher" else row["name"], {})[row["format"]] = row
        for number, (name, of) in enumerate(models.items()):
            int8 = of["int8"]
            # Of a regression, it is the change of the score once more.
            changed = None if about["metric"] in ("spearmanr", "pearson", "mse") else int8["changed"]
            rows.append(
                [
                    BENCHED.get(task, task) if number == 0 else "",
                    NAMES.get(name, name),
                    f"{of['pytorch']['score']:.2f}",
                    f"{int8['score']:.2f}",
                    f"{int8['to_float32']:+.2f}",
                    "" if changed is None else f"{100 * changed:.1f} %",
                    f"{100 * int8['to_teacher']['score']:.1f} %",
                    f"{int8['bytes'] / 1e6:.1f} MB",
                    f"{int8['to_teacher']['batch_1']:.1f}",
                    f"{int8['to_teacher']['batch_32']:.1f}",
                    f"{of['onnx']['largest_difference']:.1e}",
                ]
            )
    return markdown_table(rows)


def table_of_bench(about: dict[str, Any]) -> str:
    """What `ted bench` printed, without sizes in parameters, rows a second and what else other columns say as well."""
    header, *rows = bench_table(about)
    kept = [place for place, name in enumerate(header) if not _LEFT_OUT.fullmatch(name)]
    sizes = iter((1, 32))
    header = [f"times at {next(sizes)}" if name == "times" else name for name in header]
    return markdown_table([[row[place] for place in kept] for row in (header, *rows)])


def table_of_epochs(name: str) -> str:
    """A row for each number of epochs: the mean of each method with its interval.

    Of the default number it is docs/study/NAME.json, unless there is a file for it.
    """
    folder = DOCS / "study" / "epochs"
    found = {
        int(file.stem.rpartition("_")[2]): json.loads(file.read_text(encoding="utf-8"))
        for file in folder.glob(f"{name}_*.json")
    }
    if _EPOCHS not in found:
        found[_EPOCHS] = json.loads((DOCS / "study" / f"{name}.json").read_text(encoding="utf-8"))
    methods = [method for method in COLUMNS if all(method in one["means"] for one in found.values())]
    rows = [["epochs", "updates", "seeds", "teacher", *(NAMES[method] for method in methods)]]
    rows += [[str(number), str(one["steps"]["alone"]), *_cells(one, methods)] for number, one in sorted(found.items())]
    return markdown_table(rows)


def table_of_changes(name: str) -> str:
    """A row for each change: the mean of each method, how far that is from the defaults, and a 95 % interval of it.

    The interval is of a paired t over the seeds that both have, so that it says nothing of other rows to score on.
    """
    base = json.loads((DOCS / "study" / f"{name}.json").read_text(encoding="utf-8"))
    folder = DOCS / "study" / "changes" / name
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}
    of = {
        change: {"ted": "lwd"} if change == "identity" else {method: method for method in found[change]["methods"]}
        for change in CHANGES
        if change in found
    }
    changed = {method for named in of.values() for method in named}
    methods = [method for method in COLUMNS if method in base["methods"] and method in changed]
    rows = [["change", "seeds", *(NAMES[method] for method in methods)]]
    rows.append(["none", str(len(base["seeds"])), *(f"{np.mean(_of_seeds(base, method)):.2f}" for method in methods)])
    for change, named in of.items():
        one = found[change]
        seeds = [seed for seed in one["seeds"] if seed in base["seeds"]]
        cells = [_changed(base, method, one, named[method], seeds) if method in named else "" for method in methods]
        rows.append([CHANGES[change], str(len(seeds)), *cells])
    return markdown_table(rows)


def table_of_published(found: dict[str, dict[str, Any]]) -> str:
    """A row for each task: TED with the defaults and as it was published, on the seeds that both have."""
    rows = [["task (score)", "seeds", NAMES["alone"], "TED", "TED as published (difference, 95 % interval)"]]
    for name, title in TITLES.items():
        file = DOCS / "study" / "changes" / name / f"{PUBLISHED}.json"
        if not file.is_file():
            continue
        base, one = found[name], json.loads(file.read_text(encoding="utf-8"))
        seeds = [seed for seed in one["seeds"] if seed in base["seeds"]]
        means = [f"{np.mean(_of_seeds(base, method, seeds)):.2f}" for method in ("alone", "ted")]
        rows.append([title, str(len(seeds)), *means, _changed(base, "ted", one, "ted", seeds)])
    return markdown_table(rows)


def table_of_grid(one: dict[str, Any]) -> str:
    """A row for each method: its score on the rows held out with each combination, the chosen one in bold."""
    scores = one["search"]["scores"]
    points = list(dict.fromkeys(point for of_method in scores.values() for point in of_method))
    rows = [[f"{one['metric']} on {one['search']['rows']:,} rows", *points]]
    for method, of_method in scores.items():
        chosen = " ".join(f"{key}={value}" for key, value in one["chosen"][method].items())
        cells = [f"{of_method[point]:.1f}" if point in of_method else "" for point in points]
        rows.append([NAMES[method], *(f"**{cell}**" if point == chosen else cell
                                      for point, cell in zip(points, cells, strict=True))])  # fmt: skip
    return markdown_table(rows)


def _of_seeds(one: dict[str, Any], method: str, seeds: list[int] | None = None) -> list[float]:
    scores = dict(zip(one["seeds"], one["scores"][method], strict=True))
    return [scores[seed][one["metric"]] for seed in seeds or one["seeds"]]


def _changed(base: dict[str, Any], method: str, one: dict[str, Any], as_: str, seeds: list[int]) -> str:
    """A method's mean with a change, and its difference from the default: `47.1 (-0.8, -2.0 to +0.4)`."""
    scores = np.array(_of_seeds(one, as_, seeds))
    differences = scores - np.array(_of_seeds(base, method, seeds))
    if not differences.any():
        return "the same"
    mean = f"{scores.mean():.2f} ({differences.mean():+.2f}"
    if len(seeds) < 2:
        return f"{mean})"
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return f"{mean}, {low:+.2f} to {high:+.2f})"


def page_with_tables(text: str, found: dict[str, dict[str, Any]]) -> str:
    """A page with each of its tables written anew.

    Raises:
        KeyError: a table of a comparison that is not there.
    """

    def written(place: re.Match[str]) -> str:
        if place[2] == "int8":
            table = table_of_int8(benched())
        elif place[2] == "bench":
            table = table_of_bench(benched()[place[3]])
        elif place[2] == "epochs":
            table = table_of_epochs(place[3])
        elif place[2] == "changes":
            table = table_of_changes(place[3])
        elif place[2] == PUBLISHED:
            table = table_of_published(found)
        elif place[2] == "grid":
            table = table_of_grid(found[place[3]])
        else:
            narrow = {name: one for name, one in found.items() if name.endswith("_256")}
            wide = {name: one for name, one in found.items() if name not in narrow}
            of_all = {"wide": wide, "narrow": narrow}
            table = table_of_all(of_all[place[3]]) if place[3] in of_all else page_of(found[place[3]])
        return f"{place[1]}\n{table}\n\n{place[4]}"

    return _PLACE.sub(written, text)


def plotted(found: dict[str, dict[str, Any]]) -> str:
    """What the plot shows, in words: for those who do not see it, and to tell whether it is of what was measured."""
    lines = []
    for name in (name for name in TITLES if name in found):
        one = found[name]
        said = [f"{NAMES[method]} {_cell(one, method, best=False)}" for method in COLUMNS if method in one["means"]]
        lines.append(f"{TITLES[name]}: teacher {one['scores']['teacher'][one['metric']]:.1f}, {', '.join(said)}.")
    return " ".join(lines)


def plot(found: dict[str, dict[str, Any]], file: Path) -> None:
    """A panel for each task: each mean a dot, its interval a bar, its seeds ticks; the teacher dashed."""
    import matplotlib
    from matplotlib.figure import Figure

    names = [name for name in TITLES if name in found]
    methods = [method for method in COLUMNS if any(method in found[name]["means"] for name in names)]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "study", "font.size": 9}):
        across, down = min(len(names), _ACROSS), -(-len(names) // _ACROSS)
        size = (2.4 * across + 0.8, down * (0.9 + 0.28 * len(methods)))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(down, across, sharey=True, squeeze=False)
        for empty in panels.flat[len(names) :]:
            empty.set_axis_off()
        for panel, name in zip(panels.flat, names, strict=False):
            one = found[name]
            panel.axvline(one["scores"]["teacher"][one["metric"]], color="#333333", linestyle="--", linewidth=1)
            for place, method in enumerate(methods):
                if method not in one["means"]:
                    continue
                colour = "#D55E00" if method.startswith("ted") else "#0072B2"
                panel.plot(one["intervals"][method], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
                seeds = [scores[one["metric"]] for scores in one["scores"][method]]
                panel.plot(seeds, [place] * len(seeds), "|", color="#777777", markersize=8)
                panel.plot([one["means"][method]], [place], "o", color=colour, markersize=6)
            panel.set_title(TITLES[name].replace(" (", "\n(").replace(", ", "\n", 1), fontsize=9)
            panel.grid(axis="x", color="#e4e4e4", linewidth=0.7)
            panel.set_axisbelow(True)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0, 0].set_yticks(range(len(methods)), [NAMES[method] for method in methods])
        panels[0, 0].set_ylim(len(methods) - 0.5, -0.5)
        figure.savefig(file, metadata={"Date": None, "Creator": None, "Description": plotted(found)})


def main() -> None:
    """Write the tables of all pages, and the plot."""
    found = measured()
    plot(found, PLOT)
    for page in PAGES:
        page.write_text(page_with_tables(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
