"""Nodes, and which of them can be done when."""

from __future__ import annotations

from ted_distill.runs.graph import Node, depending_on, makespan, ready, waves

NODES = [
    Node("teacher"),
    Node("student"),
    Node("filters", ("teacher",)),
    Node("alone", ("student",)),
    Node("kd", ("teacher", "student"), after=("filters",)),
]


def names(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes]


def test_a_node_is_ready_when_all_that_it_needs_and_comes_after_is_over() -> None:
    assert names(ready(NODES, done=(), begun=())) == ["teacher", "student"]
    assert names(ready(NODES, done=("teacher",), begun=("student",))) == ["filters"]
    assert names(ready(NODES, done=("teacher", "student"), begun=("filters",))) == ["alone"]
    assert names(ready(NODES, done=("teacher", "student", "filters"), begun=())) == ["alone", "kd"]


def test_what_depends_on_a_node_does_so_through_others_but_not_by_coming_after_it() -> None:
    assert depending_on(NODES, ["teacher"]) == {"filters", "kd"}
    assert depending_on(NODES, ["filters"]) == set()


def test_waves_say_how_many_can_be_done_at_once() -> None:
    assert [names(wave) for wave in waves(NODES)] == [["teacher", "student"], ["filters", "alone"], ["kd"]]


def test_a_makespan_counts_waiting() -> None:
    lasts = {"teacher": 4.0, "student": 1.0, "filters": 1.0, "alone": 2.0, "kd": 2.0}
    assert makespan(NODES, lasts, 1) == 10.0
    assert makespan(NODES, lasts, 2) == 7.0, "student and alone are done while the teacher is"
    assert makespan(NODES, lasts, 9) == 7.0
    assert makespan([], {}, 2) == 0.0
