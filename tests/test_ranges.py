"""Every number that can be set has a range, and what is outside is refused wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import pytest

from ted_distill import InputError
from ted_distill.benching.arguments import BenchArguments
from ted_distill.cli.flags import Parser
from ted_distill.cli.help_screen import reword
from ted_distill.cli.stages import EvaluateArguments, OneModel, TwoModels
from ted_distill.method.layer_losses import LAYER_LOSSES, LayerLossName
from ted_distill.models.load import ModelArguments
from ted_distill.models.students import StudentArguments
from ted_distill.models.trimming.trim import TrimArguments
from ted_distill.ranges import MOST, above, at_least, check_ranges, one_of, range_problems, ranges_of
from ted_distill.ranges import steps_or_share as steps
from ted_distill.runs.run_arguments import RunArguments
from ted_distill.stages import DistillArguments, LearnFiltersArguments
from ted_distill.stages.methods import METHODS, MethodName
from ted_distill.tasks import TaskArguments
from ted_distill.training.stage_arguments import StageArguments

KINDS = [
    StageArguments, TaskArguments, ModelArguments, LearnFiltersArguments, DistillArguments, StudentArguments,
    RunArguments, EvaluateArguments, TrimArguments, OneModel, TwoModels, BenchArguments,
]  # fmt: skip


@dataclass
class Oven:
    """Arguments of every sort."""

    heat: Annotated[float, above(0, at_most=300)] = field(default=180.0, metadata={"help": "degrees"})
    racks: Annotated[int, at_least(1)] = 1
    slots: Annotated[list[int] | None, at_least(1)] = None
    mode: Annotated[str, one_of(("fan", "grill"))] = "fan"
    pause: Annotated[float, steps()] = 1

    def __post_init__(self) -> None:
        check_ranges(self)


def refused(**values: Any) -> list[str]:
    with pytest.raises(InputError) as error:
        Oven(**values)
    return error.value.problems


def _holds_numbers(hint: Any) -> bool:
    return hint in (int, float) or any(_holds_numbers(part) for part in get_args(hint))


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_every_command_has_a_range(kind: type) -> None:
    hints = get_type_hints(kind)
    numbers = {item.name for item in fields(kind) if item.init and _holds_numbers(hints[item.name])}
    assert sorted(numbers - {*ranges_of(kind)}) == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not StageArguments])
def test_every_default_is_in_its_range(kind: type) -> None:
    assert range_problems(kind, vars(kind())) == []


def test_the_defaults_of_training_are_in_their_ranges() -> None:
    assert range_problems(StageArguments, vars(StageArguments("out"))) == []


def test_all_values_outside_their_ranges_are_named_at_once_with_what_was_expected() -> None:
    assert refused(heat=0, racks=0, slots=[1, 0], mode="gril", pause=1.5) == [
        "heat: expected a number above 0 and at most 300, got 0",
        "racks: expected a whole number of at least 1, got 0",
        "slots: expected whole numbers of at least 1, got [1, 0]",
        "mode: expected one of fan, grill, got 'gril'; did you mean grill?",
        "pause: expected a whole number of steps, or a share of all steps, above 0, got 1.5",
    ]


@pytest.mark.parametrize("value", ["3", True, None, [1], float("inf"), float("nan"), 10**400, 1 + 1j])
def test_what_is_no_number_is_refused_for_a_number(value: Any) -> None:
    (problem,) = refused(heat=value)
    assert problem.startswith("heat: expected a number above 0")
    assert len(problem) < 150
    assert refused(racks=value)[0].startswith("racks: expected a whole number of at least 1")


def test_a_fraction_is_refused_for_a_whole_number_and_a_number_too_large_for_the_machine_for_both() -> None:
    assert refused(racks=2.0) == ["racks: expected a whole number of at least 1, got 2.0"]
    assert refused(racks=MOST + 1) == [
        "racks: expected a whole number of at least 1 and at most 2,147,483,647, got 2147483648"
    ]


def test_values_in_their_ranges_are_left_as_they_are() -> None:
    oven = Oven(heat=300, racks=MOST, slots=(1, 2), mode="grill", pause=0.5)  # type: ignore[arg-type]
    assert vars(oven) == {
        "heat": 300, "racks": MOST, "slots": (1, 2), "mode": "grill", "pause": 0.5
    }  # fmt: skip
    assert Oven(slots=None).slots is None


@pytest.mark.parametrize(
    ("value", "fits"), [(0, False), (1e-9, True), (0.999, True), (1, True), (7.0, True), (7.5, False)]
)
def test_steps_are_whole_or_a_share(value: float, fits: bool) -> None:
    assert steps().holds(value) is fits
    assert steps(zero=True).holds(0)
    assert not steps(zero=True).holds(-1)


def test_a_path_that_no_file_system_holds_is_refused() -> None:
    for path in ("x" * 256, "ä" * 128, "a\0b", "a/" * 2100, "\ud800"):
        (problem,) = range_problems(TaskArguments, {"train_file": path})
        assert problem.startswith("train_file: expected a path whose names have at most 255 bytes, got ")
        assert range_problems(StageArguments, {"output_dir": path})
    for path in ("x" * 255, "/a b/ü.csv", Path("a")):
        assert not range_problems(TaskArguments, {"train_file": path})


def test_help_says_which_numbers_are_allowed_and_what_is_the_default() -> None:
    parser = Parser((Oven,))
    reword(parser, parser.usual, ranges_of(Oven))
    text = parser.format_help()
    assert "degrees [180] (> 0, <= 300)" in text


def test_texts_of_a_literal_are_the_only_ones_and_grow_with_their_table() -> None:
    """Editors know the texts from the annotation; a table that grows has the last word."""
    assert tuple(METHODS) == get_args(MethodName)
    assert tuple(LAYER_LOSSES) == get_args(LayerLossName)
    with pytest.raises(InputError, match="layer_schedule: expected one of constant, layers_first, decay, got 'decy'"):
        DistillArguments(layer_schedule="decy")  # type: ignore[arg-type]


def test_help_says_what_each_argument_is() -> None:
    for kind in (RunArguments, TaskArguments, ModelArguments, StageArguments, DistillArguments, LearnFiltersArguments):
        text = kind.__doc__ or ""
        own = [field for field in fields(kind) if field.name in kind.__annotations__ and "help" in field.metadata]
        assert own
        assert all(f"{field.name}: {field.metadata['help']}" in text for field in own)
