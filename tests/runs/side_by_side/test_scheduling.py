"""What is begun when, and what happens when something fails: with nodes that do nothing."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from ted_distill.errors import InputError, NotFiniteError, TrainingError
from ted_distill.runs.graph import Node
from ted_distill.runs.side_by_side.scheduling import work_through

NODES = [
    Node("teacher"),
    Node("student"),
    Node("filters", ("teacher",)),
    Node("kd", ("teacher", "student"), after=("filters",)),
    Node("ted", ("filters", "student")),
]


class Told:
    """A pool that ends nodes as it is told: by name, or the one that began first."""

    def __init__(self, places: int, ends: list[str] | None = None, outcomes: Mapping[str, Any] | None = None) -> None:
        self.places = places
        self.ends = list(ends or [])
        self.outcomes = outcomes or {}
        self.running: dict[str, int] = {}
        self.seen: list[str] = []

    def start(self, place: int, node: Node, done: Mapping[str, Any]) -> None:
        assert place not in self.running.values(), "a place does one thing at a time"
        assert {*node.needs, *node.after} <= {*done}
        self.running[node.name] = place
        self.seen.append(f"{node.name} at {place}")

    def next(self) -> tuple[str, Any]:
        name = self.ends.pop(0) if self.ends else next(iter(self.running))
        del self.running[name]
        outcome = self.outcomes.get(name, f"{name} done")
        if isinstance(outcome, BaseException) and not isinstance(outcome, Exception):
            raise outcome
        return name, outcome


def test_nodes_begin_in_their_order_as_soon_as_they_can() -> None:
    pool = Told(2, ["student", "teacher", "filters", "ted", "kd"])
    found = work_through(NODES, pool, {})
    assert pool.seen == ["teacher at 0", "student at 1", "filters at 0", "kd at 0", "ted at 1"]
    assert found == {node.name: f"{node.name} done" for node in NODES}


def test_one_place_does_them_in_their_order() -> None:
    pool = Told(1)
    work_through(NODES, pool, {})
    assert [line.partition(" ")[0] for line in pool.seen] == [node.name for node in NODES]


def test_what_is_done_is_not_done_again() -> None:
    pool = Told(3)
    assert work_through(NODES, pool, {"teacher": 1, "filters": 2})["teacher"] == 1
    assert pool.seen == ["student at 0", "kd at 0", "ted at 1"]


def test_after_a_failure_those_at_work_end_and_no_other_begins(caplog: pytest.LogCaptureFixture) -> None:
    pool = Told(2, ["teacher", "student"], {"teacher": InputError("teacher: expected one, got none")})
    with caplog.at_level(logging.WARNING), pytest.raises(InputError, match="expected one, got none"):
        work_through(NODES, pool, {})
    assert pool.seen == ["teacher at 0", "student at 1"]
    assert caplog.messages == ["teacher failed (- teacher: expected one, got none); waiting for student"]


def test_the_first_failure_is_told_when_there_are_several() -> None:
    pool = Told(2, ["student", "teacher"], {"teacher": TrainingError("late"), "student": TrainingError("early")})
    with pytest.raises(TrainingError, match="early"):
        work_through(NODES, pool, {})


def test_a_tolerated_failure_is_a_result_also_of_those_that_need_it_but_not_of_those_after_it() -> None:
    error = NotFiniteError("the loss is NaN")
    pool = Told(2, outcomes={"filters": error})
    found = work_through(NODES, pool, {}, tolerated=(NotFiniteError,))
    assert found["filters"] is found["ted"] is error
    assert found["kd"] == "kd done"
    assert all("ted" not in line for line in pool.seen)


def test_an_interruption_is_for_the_pool_to_end_what_is_at_work() -> None:
    with pytest.raises(KeyboardInterrupt):
        work_through(NODES, Told(2, outcomes={"teacher": KeyboardInterrupt()}), {})
