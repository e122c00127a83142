"""Commands that take names before their flags: the folder to write may be a flag, as it is for stages."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ted_distill import InputError, TaskArguments
from ted_distill.cli.command import Names
from ted_distill.cli.flags import parse_names


@dataclass
class Flags:
    int8: bool = False
    test: str | None = None


def parsed(order: str, *words: str) -> tuple[list[str], Flags]:
    names, (flags,) = parse_names("x", Names(order, "a checkpoint and a folder", [1, 2]), (Flags,), words)
    return names, flags


@pytest.mark.parametrize(
    "words",
    [
        ["model", "out", "--int8"],
        ["model", "--int8", "-o", "out"],
        ["model", "--output_dir=out", "--int8"],
        ["model", "output_dir=out", "--int8"],
        ["--output-dir", "out", "model", "--int8"],
    ],
)
def test_the_folder_is_the_second_name_or_a_flag(words: list[str]) -> None:
    assert parsed("CHECKPOINT [OUT]", *words) == (["model", "out"], Flags(int8=True))


def test_other_flags_keep_their_values() -> None:
    names, flags = parsed("CHECKPOINT OUT", "model", "--test", "rows.csv", "-o", "out")
    assert (names, flags.test) == (["model", "out"], "rows.csv")


def test_a_flag_after_the_names_may_be_written_without_dashes() -> None:
    assert parsed("CHECKPOINT [OUT]", "model", "int8=true") == (["model"], Flags(int8=True))
    assert parsed("CHECKPOINT [OUT]", "model", "test=rows.csv", "--int8") == (["model"], Flags(True, "rows.csv"))
    assert parsed("CHECKPOINT [OUT]", "runs/lr=1e-4", "out") == (["runs/lr=1e-4", "out"], Flags())


def test_what_is_said_of_a_task_by_name_is_said_also_if_it_is_the_default() -> None:
    _, (task,) = parse_names("x", Names("CHECKPOINT", "a checkpoint", [1]), (TaskArguments,), ["m", "--doc_stride=128"])
    assert task.explicit == {"doc_stride": 128}
    assert TaskArguments(doc_stride=128, max_seq_length=9).explicit == {"max_seq_length": 9}


def test_a_folder_without_a_name_and_a_command_without_a_folder_are_refused() -> None:
    with pytest.raises(InputError, match="-o: expected a value, got nothing"):
        parsed("CHECKPOINT [OUT]", "model", "-o")
    with pytest.raises(InputError, match="unknown flag --output_dir"):
        parsed("CHECKPOINT OWNER/NAME", "model", "me/model", "--output_dir", "out")
    with pytest.raises(InputError, match="expected a flag, got -o"):
        parsed("CHECKPOINT [OUT]", "-o", "model", "-o", "out")
