"""A release has one version and one date, wherever it is written."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import ted_distill

ROOT = Path(__file__).parents[1]


def test_the_changelog_and_the_citation_are_those_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    headings = re.findall(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert headings[0] == (cited["version"], str(cited["date-released"]))
    assert cited["version"] == ted_distill.__version__
