"""The parts of a run that `run_parts.py` tells apart, and the attention that `attention.py` times."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import pytest

import attention
import run_parts
from run_parts import PARTS, Shares


def stepping(*seconds: float) -> Shares:
    """Clocks that go on as given with each look, the second twice as fast."""
    times = iter(seconds)
    return Shares(lambda: (now := next(times), 2 * now))


def test_a_part_is_counted_without_those_inside_it() -> None:
    shares = stepping(0, 1, 4, 10, 15)
    with shares.part("saving"), shares.part("loading"):
        pass
    assert shares.seconds == {"all else": (1, 2), "saving": (8, 16), "loading": (6, 12)}
    assert shares.calls == {"saving": 1, "loading": 1}


def test_a_part_that_calls_itself_is_one() -> None:
    shares = stepping(0, 1, 2, 3, 4)
    with shares.part("loading"), shares.part("loading"):
        pass
    assert shares.calls == {"loading": 1}
    assert shares.seconds["loading"] == (3, 6)


def test_every_part_names_what_there_is() -> None:
    for places in PARTS.values():
        for place in places:
            module, _, path = place.partition(":")
            found = import_module(f"ted_distill.{module}")
            for part in filter(None, path.split(".")):
                found = vars(found)[part] if isinstance(found, type) else getattr(found, part)


def test_a_function_is_a_part_wherever_it_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    home, user = ModuleType("ted_distill.home"), ModuleType("ted_distill.user")
    home.work = user.work = lambda: 3  # type: ignore[attr-defined]
    for module in (home, user):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    shares = Shares()
    run_parts.watch(shares, "home:work", "saving")
    assert user.work() == home.work() == 3
    assert shares.calls == {"saving": 2}


def test_the_table_says_what_is_around_training() -> None:
    shares = stepping(0, 10, 20)
    with shares.part("training"):
        pass
    shares.seconds |= {"start-up": (0.5, 0.5), "saving": (0.5, 0.5)}
    *_, total, around = [line.split() for line in run_parts.table(shares).splitlines()]
    assert total == ["total", "21.0", "41.0", "100.0%"]
    assert around == ["around", "training", "1.0", "1.0", "2.4%"]


def test_both_kinds_of_attention_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"hidden_size": 24, "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 50}
    monkeypatch.setattr(attention, "SHAPE", attention.SHAPE | small)
    assert attention.main(["--lengths", "4", "8", "--types", "float32", "--steps", "1", "--batch_size", "4"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[-2:]] == [["float32", "4"], ["float32", "8"]]
    assert all(float(cell.rstrip("%")) >= 0 for line in lines[-2:] for cell in line[2:])
