"""docs/recipes.md is what its script makes of the dataclasses, and it has every key."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from ted_distill.models.load import ModelArguments
from ted_distill.runs.parsing import field_names
from ted_distill.runs.recipe_keys import SECTIONS, SET_BY_THE_RUN
from ted_distill.runs.run_arguments import RunArguments
from ted_distill.stages import DistillArguments
from ted_distill.tasks import TaskArguments

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_recipes_page", DOCS / "make_recipes_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_makes(script: ModuleType) -> None:
    written = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert written == script.page(), "run: python docs/make_recipes_page.py"


def test_the_page_has_every_key_and_section() -> None:
    written = (DOCS / "recipes.md").read_text(encoding="utf-8")
    keys = field_names(RunArguments, TaskArguments, ModelArguments, DistillArguments) - SET_BY_THE_RUN
    assert not [key for key in {*keys, *SECTIONS} if f"`{key}`" not in written]
    assert not [line for line in written.splitlines() if line.startswith("| `") and line.endswith("|  |")]
