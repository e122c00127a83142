"""Candidates take turns, and what is timed is what was asked for."""

from __future__ import annotations

from itertools import groupby

from ted_distill.benching.sample import batches_of, spread_by_length
from ted_distill.benching.timing import Work, take_turn, take_turns


def work(name: str, said: list[str], rows: int = 3, batches: int = 2) -> Work:
    def call(what: str) -> None:
        said.append(f"{name}{what}")

    single = [lambda row=row: call(f" row {row}") for row in range(rows)]
    return Work(single, [lambda batch=batch: call(f" batch {batch}") for batch in range(batches)], 32 * batches)


def test_every_candidate_has_one_turn_in_each_round_and_rounds_differ_in_order() -> None:
    said: list[str] = []
    names = ["a", "b", "c", "d"]
    turns = take_turns({name: work(name, said) for name in names}, rounds=6)
    assert {name: len(of) for name, of in turns.items()} == dict.fromkeys(names, 6)
    # Two turns of one candidate may follow each other, so calls are counted: each turn has seven.
    order = [said[place][0] for place in range(0, len(said), 7)]
    rounds = [order[start : start + 4] for start in range(0, 24, 4)]
    assert all(sorted(one) == names for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    again: list[str] = []
    take_turns({name: work(name, again) for name in names}, rounds=6)
    assert again == said


def test_the_first_call_of_each_kind_is_made_before_the_clock_starts() -> None:
    said: list[str] = []
    turn = take_turn(work("a", said))
    assert [what for what, _ in groupby(said)] == [
        "a row 0", "a row 1", "a row 2", "a batch 0", "a batch 1",
    ]  # fmt: skip
    assert said.count("a row 0") == said.count("a batch 0") == 2
    assert len(turn.single) == 3
    assert turn.batches > 0
    assert turn.single_cpu >= 0


def test_rows_are_spread_over_the_lengths_of_the_data() -> None:
    lengths = [number % 50 + 1 for number in range(200)]
    found = [lengths[place] for place in spread_by_length(lengths, 20)]
    assert found == sorted(found, reverse=True)
    assert abs(sum(found) / 20 - sum(lengths) / 200) < 1
    assert sorted(spread_by_length([3, 1, 2], 10)) == [0, 1, 2]


def test_batches_are_full_and_of_similar_length_and_few_rows_are_repeated() -> None:
    for number in (63, 70, 95):
        batches = batches_of(list(range(number)))
        assert {len(batch) for batch in batches} == {32}
        drawn = [place for batch in batches for place in batch]
        assert drawn == sorted(drawn)
        assert abs(sum(drawn) / len(drawn) - (number - 1) / 2) < 0.5, "neither the long nor the short rows are left out"
    assert batches_of(list(range(64))) == [list(range(32)), list(range(32, 64))]
    (few,) = batches_of([7, 8, 9])
    assert few == [7] * 11 + [8] * 10 + [9] * 11
