"""Writes the tables of docs/study.md and README.md from what `ted compare` measured.

python docs/make_study_tables.py

Each file docs/study/NAME.json is the `compare.json` of one comparison, as it was written. The tables stand between
lines `<!-- study NAME -->` and `<!-- end -->`; `<!-- study -->` is the table of all.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ted_distill.runs.compare.verdicts import page as page_of
from ted_distill.runs.table import markdown_table
from ted_distill.stages.methods import METHODS

DOCS = Path(__file__).parent
PAGES = (DOCS / "study.md", DOCS.parent / "README.md")
TITLES = {
    "stsb": "STS-B (Spearman)",
    "sst2": "SST-2, 10,000 rows (accuracy)",
    "mrpc": "MRPC (F1)",
    "wnut_17": "WNUT-17 (F1 of names)",
    "tickets": "400 tickets, 2 epochs (accuracy)",
}
"""The comparisons of README's table, in its order; other files have a table of their own only."""
COLUMNS = ("alone", "kd", "lwd", "attention", "ted", "ted_attention")
NAMES = {name: method.title for name, method in METHODS.items()} | {"alone": "alone"}
_PLACE = re.compile(r"(<!-- study ?(\w*) -->\n).*?(<!-- end -->)", re.DOTALL)


def measured() -> dict[str, dict[str, Any]]:
    """Every comparison there is, by name."""
    files = sorted((DOCS / "study").glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def table_of_all(found: dict[str, dict[str, Any]]) -> str:
    """A row for each task: the teacher, and the mean of each method with the interval that seeds and rows give it."""
    shown = [name for name in TITLES if name in found]
    methods = [method for method in COLUMNS if any(method in found[name]["means"] for name in shown)]
    rows = [["task (score)", "seeds", "teacher", *(NAMES[method] for method in methods)]]
    for name in shown:
        one = found[name]
        best = max(one["means"].values())
        teacher = f"{one['scores']['teacher'][one['metric']]:.1f}"
        cells = [_cell(one, method, one["means"].get(method) == best) for method in methods]
        rows.append([TITLES[name], str(len(one["seeds"])), teacher, *cells])
    return markdown_table(rows)


def _cell(one: dict[str, Any], method: str, best: bool) -> str:
    if method not in one["means"]:
        return ""
    low, high = one["intervals"][method]
    mean = f"{one['means'][method]:.1f}"
    return f"{f'**{mean}**' if best else mean} ({low:.1f} to {high:.1f})"


def page_with_tables(text: str, found: dict[str, dict[str, Any]]) -> str:
    """A page with each of its tables written anew.

    Raises:
        KeyError: a table of a comparison that is not there.
    """

    def written(place: re.Match[str]) -> str:
        table = page_of(found[place[2]]) if place[2] else table_of_all(found)
        return f"{place[1]}\n{table}\n\n{place[3]}"

    return _PLACE.sub(written, text)


def main() -> None:
    """Write the tables of all pages."""
    found = measured()
    for page in PAGES:
        page.write_text(page_with_tables(page.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
