"""The documentation site is whole: every public name and every page is on it, and it builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ted_distill

DOCS = Path(__file__).parents[2] / "docs"


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)$", page, flags=re.MULTILINE)
    assert sorted(named) == sorted(ted_distill.__all__)


def test_every_page_is_in_the_contents() -> None:
    contents = re.findall(r"^(?:.* <)?([\w-]+)>?$", (DOCS / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= set(contents)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (DOCS / link).is_file()] == []


@pytest.mark.long
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    built = subprocess.run([*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "task-aware layer-wise distillation" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
