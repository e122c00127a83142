"""Stages that share what is kept of the teacher have an order, except where it keeps nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_runs import write_recipe
from ted_distill import read_recipe
from ted_distill.runs.planning import plan
from ted_distill.runs.recipe import Recipe
from ted_distill.runs.side_by_side import node_graph
from ted_distill.runs.side_by_side.node_graph import Graph, Started
from ted_distill.runs.steps import Steps


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return small(tmp_path)


def small(tmp_path: Path, *words: str) -> Recipe:
    file = write_recipe(tmp_path, "sequence_classification")
    return read_recipe(file, ["methods=[kd, lwd]", "finetune_student=false", f"output_dir={tmp_path / 'run'}", *words])


def order_of(recipe: Recipe, one_machine: bool, on_gpus: bool = True) -> dict[str, tuple[str, ...]]:
    steps = Steps(recipe)
    planned = plan(recipe, steps.task, tokenise=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graph, "_on_gpus", on_gpus)
        graph = Graph([Started(steps, planned)], one_machine)
    return {node.name: node.after for node in graph.nodes if node.after}


def test_on_a_cpu_a_method_waits_for_the_one_that_fills_what_it_reads(recipe: Recipe) -> None:
    for one_machine in (True, False):
        assert order_of(recipe, one_machine, on_gpus=False) == {"lwd": ("kd",)}


def test_on_the_gpus_of_one_machine_none_waits(recipe: Recipe) -> None:
    assert order_of(recipe, one_machine=True) == {}


def test_on_gpus_of_several_machines_they_wait_as_files_may_be_seen_late(recipe: Recipe) -> None:
    assert order_of(recipe, one_machine=False) == {"lwd": ("kd",)}


def test_where_room_is_short_they_wait_as_it_depends_on_the_order_what_is_kept(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_graph, "_fits", lambda plans: False)
    assert order_of(recipe, one_machine=True)["lwd"] == ("kd",)


def test_where_sums_are_added_in_a_fixed_order_they_wait(tmp_path: Path) -> None:
    assert order_of(small(tmp_path, "training.full_determinism=true"), one_machine=True) == {"lwd": ("kd",)}
