"""The names the package shows, and how quickly it shows its help."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ted_distill


def test_every_public_name_is_there_and_documented() -> None:
    for name in ted_distill.__all__:
        thing = getattr(ted_distill, name)
        assert name == "TASKS" or thing.__doc__, name
    assert set(ted_distill.__all__) <= set(dir(ted_distill))


def test_a_type_checker_finds_each_name_where_it_is_imported_from() -> None:
    tree = ast.parse(Path(ted_distill.__file__).read_text(encoding="utf-8"))
    shown = {
        name.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    assert {name: shown.get(name) for name in ted_distill.__all__} == ted_distill._HOME_OF


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="distil'"):
        _ = ted_distill.distil


def test_the_help_is_shown_without_importing_torch() -> None:
    code = "import sys; from ted_distill.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "ted run RECIPE [key=value" in done.stdout
