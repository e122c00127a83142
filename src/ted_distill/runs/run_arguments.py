"""The top level of a recipe: the models and methods of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..errors import collect, raise_if_any
from ..method.pairs import parse_pairs
from ..models.narrowing.narrow import Narrow
from ..ranges import a_path, at_least, described, one_of, range_problems, take_values
from ..stages.filters.filter_arguments import FilterInit, FilterToken
from ..stages.methods import METHODS
from .gates import check_models, read_requirement
from .table import BEST

Start = Literal["teacher", "finetuned", "pretrained"]


@described
@dataclass
class RunArguments:
    """The models and methods of a run: the top level of a recipe, together with the keys of its task."""

    output_dir: Annotated[str | None, a_path()] = None
    """the run's folder [runs/NAME for the recipe NAME.yaml]"""
    report: bool = True
    """`ted run` and `ted compare` write `report.html`, `.md` and `.json` at the end"""
    teacher: str | None = None
    """folder or Hub id"""
    student: str | None = None
    """folder or Hub id [the teacher, with student_layers]"""
    student_layers: Annotated[list[int] | None, at_least(1)] = None
    """make the student of these blocks of `student`, counted from 1"""
    student_num_layers: Annotated[int | None, at_least(1)] = None
    """or this many of them: the first for tags and answers, otherwise evenly spaced ones, the last among them"""
    student_hidden_size: Annotated[int | None, at_least(1)] = None
    """make it narrower, with fewer heads"""
    student_narrow: Narrow | None = None
    """its weights: truncated, random, or important to training rows [important]"""
    student_trim: Literal["train"] | None = None
    """`best` keeps only the tokens that the training texts need: train [all]"""
    methods: Annotated[list[str], one_of(METHODS)] = field(default_factory=lambda: ["alone", "kd", "lwd", "ted"])
    """in this order; `alone`, on the labels alone, is always among them"""
    start_from: Start | None = None
    """what the methods start from: blocks of the fine-tuned `teacher`, or the student `finetuned` or `pretrained`
    [teacher where the student is made of its blocks; otherwise finetuned]"""
    check: bool = True
    """before the first stage, look at models and data and time a few steps, as `ted check` does"""
    pairs: list[str] | None = None
    """[teacher block, student block] of each pair [as the student was made]"""
    filter_interval: Annotated[int, at_least(1)] = 1
    """student: a filter after every N-th block"""
    teacher_filter_interval: Annotated[int | None, at_least(1)] = None
    """the same for the teacher [as the numbers of blocks divide]"""
    filter_output_dim: Annotated[int | None, at_least(1)] = None
    """width of both models' filters [teacher's]"""
    filter_nonlinear: bool = False
    """Linear -> act -> Linear filters"""
    filter_init: FilterInit | None = None
    """start of Stage I: scaled, identity or normal [scaled; nonlinear or wider filters: normal]"""
    filter_token: FilterToken | None = None
    """what heads of whole rows read: first or mean [first]"""

    keep: Literal["all", "best"] = "all"
    """all models, or only the best student and all results [all]"""
    workers: Annotated[int | str | None, at_least(1, or_text=("auto",))] = None
    """stages that do not wait for each other, side by side: how many at once, or auto: as many as speed it up [1]"""
    launcher: Literal["local", "ray"] = "local"
    """where they are made: on this machine, or as tasks of a Ray cluster [local]"""
    require: list[str] | None = None
    """what must hold at the end, such as `ted.f1 >= 0.97 * teacher.f1`; otherwise exit code 4"""

    def __post_init__(self) -> None:
        """Refuse values outside their ranges, and arguments that contradict each other. Raises `InputError`."""
        take_values(self)
        problems = range_problems(type(self), vars(self))
        if twice := sorted({name for name in self.methods if self.methods.count(name) > 1}):
            problems.append(f"methods: expected each of them once, got {', '.join(twice)} several times")
        if self.student_narrow and not self.student_hidden_size:
            problems.append("student_narrow: expected student_hidden_size with it, got none; give it or leave both out")
        if self.student_layers and self.student_num_layers:
            problems.append(
                "student_layers: expected it or student_num_layers, got both; set the other to null, as "
                "student_num_layers=null"
            )
        with collect(problems):
            parse_pairs(self.pairs or [])
        if self.pairs and (self.filter_interval != 1 or self.teacher_filter_interval is not None):
            problems.append("pairs: expected pairs or filter intervals, got both; remove one")
        models = ["teacher", "student", "alone", *self.methods, BEST]
        for text in self.require or []:
            with collect(problems):
                problems += check_models([read_requirement(text)], list(dict.fromkeys(models)))
        if self.start_from == "teacher" and not self.made_of_teacher:
            problems.append(
                "start_from: expected finetuned or pretrained with a student that is not made of the teacher's blocks, "
                "got teacher; give student_layers and no student, or another start_from"
            )
        raise_if_any(problems)
        if self.methods and "alone" not in self.methods:
            self.methods = ["alone", *self.methods]

    @property
    def makes_student(self) -> bool:
        """Whether the student is made of a model's blocks, or is a narrower copy."""
        return bool(self.student_layers or self.student_num_layers or self.student_hidden_size)

    @property
    def made_of_teacher(self) -> bool:
        """Whether it is made of the teacher's."""
        return self.makes_student and self.student in (None, self.teacher)

    @property
    def start(self) -> str:
        """`start_from`, or its default."""
        return self.start_from or ("teacher" if self.made_of_teacher else "finetuned")
