"""docs/method.md names functions that exist."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from ted_distill import Task

PAGE = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## Equations and functions")[2].partition("|")[2].partition("\n## ")[0]
NAMED = sorted(set(re.findall(r"`((?:stages\.)?[a-z_]+\.[A-Za-z_]\w*(?:\.\w+)?)`", TABLE)))


@pytest.mark.parametrize("name", NAMED)
def test_a_function_of_the_table_of_equations_exists(name: str) -> None:
    room = "" if name.startswith("stages.") else "method."
    module, _, function = f"{room}{name}".rpartition(".")
    assert hasattr(import_module(f"ted_distill.{module}"), function)


def test_the_table_names_a_function_for_each_loss_and_method() -> None:
    assert len(NAMED) >= 20
    for method in re.findall(r"`Task\.(\w+)`", PAGE):
        assert hasattr(Task, method)
