"""The arguments of a bench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from ..ranges import a_path, at_least, check_ranges, described

Format = Literal["pytorch", "bf16", "onnx", "int8"]


@described
@dataclass
class BenchArguments:
    """What is measured, and how often."""

    _argument_group_name: ClassVar[str] = "bench"

    teacher: str | None = None
    """folder or Hub id of the model that all others are compared with"""
    test: str | None = None
    """score on, and time, the rows of this recipe or data file [generated texts]"""
    formats: list[Format] | None = None
    """formats to measure [all that this machine runs well]"""
    output_dir: Annotated[str | None, a_path()] = None
    """folder for the table and the plot; if RUN has a finished run and a comparison, the run is measured: RUN/compare
    names the other [RUN/bench, of a comparison RUN/compare/bench, or CHECKPOINT-bench]"""
    rounds: Annotated[int, at_least(1)] = 7
    """times that every candidate has its turn; what is said is the median [7]"""
    rows: Annotated[int, at_least(1)] = 128
    """rows of a turn, at most; fewer where models are slow [128]"""
    threads: Annotated[int, at_least(1)] = 1
    """threads that a model may use while it is timed [1]"""
    cards: bool = False
    """also put the figures of each student in a folder into a section of its README.md, and of that of RUN/best, its
    copy; not of the teacher's"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)
