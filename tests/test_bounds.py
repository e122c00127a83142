"""pyproject.toml promises the lowest versions that `make test-oldest` tries."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    root = Path(__file__).parents[1]
    (promised,) = re.findall(r"^dependencies = \[\n(.*?)^\]", (root / "pyproject.toml").read_text(), re.M | re.S)
    bounds = dict(re.findall(r'^ *"([\w-]+)>=([\w.]+)', promised, re.M))
    oldest = dict(re.findall(r"^([\w-]+)==([\w.]+)$", (root / "constraints-oldest.txt").read_text(), re.M))
    assert {name: Version(version) for name, version in bounds.items()} == {
        name: Version(version) for name, version in oldest.items() if name != "pytest"
    }
