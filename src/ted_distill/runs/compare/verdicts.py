"""A comparison in words and in one table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ...stages.methods import METHODS
from ...wording import and_list, counted
from ..table import markdown_table, model_title, shown_seconds
from .statistics import LEAST_SEEDS, LEVEL

Content = Mapping[str, Any]
"""What `compare.json` holds; see `comparison._content`."""


def summary(content: Content) -> dict[str, Any]:
    """Mean and standard deviation of each method, and the share of the gap to the teacher that it closes.

    The gap is what training alone leaves to the teacher. Where alone is not behind the teacher by more than its own
    standard deviation, there is none to close.
    """
    values = {name: _values(content, name) for name in content["methods"]}
    means = {name: statistics.mean(of_method) for name, of_method in values.items()}
    spread = {name: statistics.stdev(of_method) if len(of_method) > 1 else None for name, of_method in values.items()}
    sign = -1 if content["lower_is_better"] else 1
    closed: dict[str, float | None] = {}
    if "alone" in means:
        gap = sign * (content["scores"]["teacher"][content["metric"]] - means["alone"])
        least = spread["alone"] or 0.0
        others = [name for name in means if name != "alone"]
        closed = {name: sign * (means[name] - means["alone"]) / gap if gap > least else None for name in others}
    return {"means": means, "standard_deviations": spread, "gap_closed": closed}


def verdicts(content: Content) -> list[str]:
    """A sentence on every pair of methods: which is better and by how much, or that they cannot be told apart."""
    seeds = len(content["seeds"])
    sentences = [_verdict(pair, content["metric"], content["lower_is_better"]) for pair in content["comparisons"]]
    if sentences and seeds < LEAST_SEEDS:
        number = "One seed" if seeds == 1 else "Two seeds"
        sentences.append(
            f"{number} can hardly ever tell methods apart: use --seeds {LEAST_SEEDS} or more, preferably 5."
        )
    return sentences


def _verdict(pair: Mapping[str, Any], metric: str, lower_is_better: bool) -> str:
    """The sentence; a difference is of the scores as they are, so that a lower perplexity is a negative one."""
    sign = -1 if lower_is_better else 1
    better, worse = METHODS[pair["better"]].title, METHODS[pair["worse"]].title
    better = better[0].upper() + better[1:]
    facts = []
    if pair["interval"] is not None:
        low, high = sorted(sign * end for end in pair["interval"])
        facts.append(f"95 % interval {_signed(low)} to {_signed(high)}")
    p = larger_p(pair)
    if p is not None:
        facts.append(f"p {_p(p)}")
    known = f" ({', '.join(facts)})" if facts else ""
    difference = f"{metric} {_signed(sign * pair['difference'])}{known}."
    if pair["told_apart"]:
        return f"{better} {'are' if better.endswith('s') else 'is'} better than {worse}: {difference}"
    return f"{better} and {worse} cannot be told apart: {difference}"


def _signed(value: float) -> str:
    """With its sign and two decimals, of which nothing has a plus."""
    return f"{value if abs(value) >= 0.005 else 0.0:+.2f}"


def larger_p(pair: Mapping[str, Any]) -> float | None:
    """The larger p value of a pair's two tests, after Holm's correction, which decides; None with one seed."""
    p, p_bootstrap = pair.get("p_holm"), pair.get("p_bootstrap_holm")
    return None if p is None else float(max(p, p_bootstrap or 0.0))


def page(content: Content) -> str:
    """The table, how its numbers came about, the verdicts, and the scores on further data, in Markdown."""
    parts = [table(content), "\n".join(notes(content)), "\n".join(f"- {line}" for line in content["verdicts"])]
    return "\n\n".join([*parts, *further(content)])


def further(content: Content) -> list[str]:
    """A table of the means on the data of `score_on`, with the sd over the seeds, and what it is; or nothing."""
    found = {name: of_seeds for name, of_seeds in content.get("further", {}).items() if of_seeds[0]}
    if not found:
        return []
    scores = list(next(iter(found.values()))[0])
    rows = [["model", *scores]]
    for name, of_seeds in found.items():
        cells = []
        for score in scores:
            values = [one[score] for one in of_seeds]
            varies = len(values) > 1 and name in content["methods"]
            cells.append(_score(statistics.mean(values)) + (f" (sd {statistics.stdev(values):.2f})" if varies else ""))
        rows.append([_title(name, content), *cells])
    return ["On further data (`score_on`), mean over the seeds:", markdown_table(rows)]


def mean_of(of_seeds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each number over the seeds."""
    return {name: statistics.fmean(one[name] for one in of_seeds) for name in of_seeds[0]}


def table(content: Content) -> str:
    """One row for each model: mean, spread and interval of the score, and how near it comes to the teacher."""
    metric = content["metric"]
    rows = [["model", metric, "sd", "95 % interval", "of the teacher", "gap closed", "agrees", "parameters", "seconds"]]
    for name in ("teacher", "student"):
        rows.append(
            [_title(name, content), _score(content["scores"][name][metric]), *[""] * 5, _size(content, name), ""]
        )
    for name in content["methods"]:
        low, high = content["intervals"][name]
        spread, closed = content["standard_deviations"][name], content["gap_closed"].get(name)
        of_seed = [next(iter(agreement.values())) for agreement in content["agreement"][name]]
        rows.append(
            [
                _title(name, content),
                _score(content["means"][name]),
                "" if spread is None else f"{spread:.2f}",
                f"{low:.2f} to {high:.2f}" if low < high else "",
                _share(content, name),
                "" if closed is None else f"{100 * closed:.0f} %",
                f"{statistics.mean(of_seed):.1f}",
                _size(content, name),
                shown_seconds(statistics.mean(content["seconds"][name]), _searched(content, name)),
            ]
        )
    return markdown_table(rows)


def notes(content: Content) -> list[str]:
    """How the numbers of the table came about."""
    seeds, rows = len(content["seeds"]), content["rows"]
    sentences = [
        f"{content['metric']} on {rows:,} {content['split']} rows: mean over {counted(seeds, 'seed')}, scored with "
        f"{_weights(content)}; sd over the seeds. All methods start from the same student{_how_long(content)}.",
        f"The intervals draw seeds and examples {content['resamples']:,} times.",
    ]
    if len(content["comparisons"]) > 1:
        sentences.append(
            "p: the larger one of a paired t test over the seeds and of a bootstrap over seeds and rows, after Holm's "
            f"correction for {len(content['comparisons'])} pairs; methods are told apart where it is below {LEVEL:g}. "
            "The intervals are of one pair each."
        )
    closed = content["gap_closed"].values()
    if closed and all(share is None for share in closed):
        sentences.append("The student alone is not behind the teacher by more than its sd: there is no gap to close.")
    if rates := content.get("found_rates"):
        found = [f"{METHODS[name].title} {_range(of_method)}" for name, of_method in rates.items()]
        sentences.append(
            f"Learning rates found by each method and seed on training rows held out: {'; '.join(found)}. The teacher "
            "was trained on these rows too, which makes low rates look too good."
        )
    if content["search"]:
        tried = {name: len(scores) for name, scores in content["search"]["scores"].items()}
        choices = [
            f"{METHODS[name].title} {_settings(chosen)} of {tried[name]}"
            for name, chosen in content["chosen"].items()
            if name in tried
        ]
        sentences.append(
            f"Settings chosen on {content['search']['rows']:,} rows held out of the training rows: "
            f"{'; '.join(choices) or 'none, as there was one of each'}."
        )
        if content["search"].get("teacher_given"):
            sentences.append("The teacher was given, and may have been trained on the rows that chose the settings.")
    return sentences


def _weights(content: Content) -> str:
    """Which weights were scored: those of all methods, or of all but some."""
    chosen = content.get("chosen_weights", [])
    if len(chosen) == len(content["methods"]):
        return "the weights that the recipe's evaluations chose"
    if not chosen:
        return "the last weights"
    titles = and_list([METHODS[name].title for name in chosen])
    of = "these" if content["split"] == "validation" else "the validation"
    favours = ", which favours it" if of == "these" else ""
    return f"the last weights; for {titles} the best of several evaluations on {of} rows{favours}"


def _how_long(content: Content) -> str:
    """Whether the methods had the same number of updates."""
    steps = {name: number for name, number in content["steps"].items() if name in METHODS and number is not None}
    if len(set(steps.values())) < 2:
        return " and train equally long"
    return ", but do not train equally long: " + ", ".join(
        f"{METHODS[name].title} {number:,} updates" for name, number in steps.items()
    )


def _values(content: Content, name: str) -> list[float]:
    return [scores[content["metric"]] for scores in content["scores"][name]]


def _title(name: str, content: Content) -> str:
    is_student = name == "student" and not content["parameters"].get("student")
    steps = content.get("steps", {})
    return name if is_student else model_title(name, {"steps": steps[name]} if name in steps else {})


def _score(value: float) -> str:
    return f"{value:.2f}"


def _share(content: Content, name: str) -> str:
    """The mean score in percent of the teacher's; where less is better, the teacher's in percent of the mean."""
    teacher, mean = content["scores"]["teacher"][content["metric"]], content["means"][name]
    if content["lower_is_better"]:
        teacher, mean = mean, teacher
    return f"{100 * mean / teacher:.1f} %" if teacher > 0 else ""


def _size(content: Content, name: str) -> str:
    return f"{content['parameters'][name]:,}" if name in content["parameters"] else ""


def _searched(content: Content, name: str) -> float | None:
    """Mean seconds of a method's searches for its learning rate; None without one."""
    of_seeds = content.get("search_seconds", {}).get(name)
    return statistics.mean(of_seeds) if of_seeds else None


def _settings(chosen: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in chosen.items()) or "defaults"


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _p(value: float) -> str:
    return f"= {value:.3f}" if value >= 0.001 else "< 0.001"
