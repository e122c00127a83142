"""Stages that share what is kept of the teacher read what they would if they were made one after the other."""

from __future__ import annotations

from ted_distill.runs.side_by_side.cache_order import Touch, waits

LOGITS, STATES = frozenset({"logits"}), frozenset({"logits", "block 2"})


def touch(files: frozenset[str], whole: bool = True, cache: str = "a") -> Touch:
    return Touch((cache,), files, whole)


def test_readers_wait_for_the_stage_that_fills_what_they_read_and_not_for_each_other() -> None:
    found = waits([("kd 1", touch(LOGITS)), ("kd 2", touch(LOGITS)), ("kd 3", touch(LOGITS))])
    assert found == {"kd 1": set(), "kd 2": {"kd 1"}, "kd 3": {"kd 1"}}


def test_a_stage_that_writes_waits_for_all_that_read_or_wrote_before_it() -> None:
    found = waits([("kd 1", touch(LOGITS)), ("kd 2", touch(LOGITS)), ("ted", touch(STATES)), ("kd 3", touch(LOGITS))])
    assert found["ted"] == {"kd 1", "kd 2"}
    assert found["kd 3"] == {"ted"}, "whose rows it reads"


def test_a_stage_that_does_not_see_all_rows_fills_nothing() -> None:
    found = waits([("kd 1", touch(LOGITS, whole=False)), ("kd 2", touch(LOGITS)), ("kd 3", touch(LOGITS))])
    assert found == {"kd 1": set(), "kd 2": {"kd 1"}, "kd 3": {"kd 2"}}


def test_stages_of_other_caches_do_not_wait() -> None:
    assert waits([("kd", touch(LOGITS)), ("ted", touch(STATES, cache="b"))]) == {"kd": set(), "ted": set()}
