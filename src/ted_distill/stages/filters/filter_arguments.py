"""The arguments of Stage I: which blocks get a filter, what shape it has, where it starts and what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from transformers import PretrainedConfig

from ...errors import InputError
from ...method.filters import FilterConfig
from ...ranges import at_least, check_ranges, described
from ...tasks.base import Task

FilterInit = Literal["scaled", "identity", "normal"]
FilterToken = Literal["first", "mean"]


@described
@dataclass
class LearnFiltersArguments:
    """Which blocks get a filter, and the shape of the filters."""

    _argument_group_name: ClassVar[str] = "filters"

    filter_interval: Annotated[int, at_least(1)] = 1
    """a filter after every N-th block"""
    filter_output_dim: Annotated[int | None, at_least(1)] = None
    """filter width [the model's own width]"""
    filter_nonlinear: bool = False
    """Linear -> act -> Linear instead of Linear"""
    filter_blocks: Annotated[list[int] | None, at_least(1)] = None
    """a filter after each of these blocks"""
    filter_init: FilterInit | None = None
    """start: scaled (the identity in units of the states' deviation), identity, or normal (random) [scaled; nonlinear
    or wider filters: normal]"""
    filter_token: FilterToken | None = None
    """what heads of whole rows read: the first token, or the mean of all [first]"""
    frozen_dropout: bool = False
    """dropout on in the frozen model, as in the published code; nothing is cached"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)
        if self.filter_blocks and self.filter_interval != 1:
            raise InputError(
                f"filter_blocks: expected no filter_interval with it, got {self.filter_interval}; leave out one or "
                "the other"
            )

    def shape(self, config: PretrainedConfig) -> FilterConfig:
        """The shape of a model's filters. Raises `InputError`: see `FilterConfig.for_model`."""
        return FilterConfig.for_model(
            config, self.filter_interval, self.filter_output_dim, self.filter_nonlinear, self.filter_blocks
        )

    def start(self, config: FilterConfig) -> str:
        """`filter_init`, or its default for filters of this shape.

        Raises:
            InputError: `scaled` or `identity` for filters that cannot start so.
        """
        narrow = config.filter_output_dim <= config.hidden_size
        if self.filter_init is None:
            return "scaled" if narrow and not config.filter_nonlinear else "normal"
        same = config.filter_output_dim == config.hidden_size
        fits = {"scaled": narrow, "identity": same, "normal": True}[self.filter_init]
        if self.filter_init != "normal" and (config.filter_nonlinear or not fits):
            widths = "at most the model's width" if self.filter_init == "scaled" else "the model's width"
            got = "nonlinear ones" if config.filter_nonlinear else f"a width of {config.filter_output_dim}"
            raise InputError(
                f"filter_init: expected linear filters of {widths}, {config.hidden_size}, with {self.filter_init}, got "
                f"{got}; choose normal"
            )
        return self.filter_init

    def token(self, task: Task) -> str | None:
        """What filters read while they are learnt: `first`, `mean`, or None for all tokens.

        Raises:
            InputError: a choice for a task whose predictions are for each token.
        """
        if task.first_token_only:
            return self.filter_token or "first"
        if self.filter_token is not None:
            raise InputError(
                f"filter_token: expected none with task {task.name}, whose heads read every token, got "
                f"{self.filter_token}; leave it out"
            )
        return None

    def identity(self, task: Task, config: FilterConfig) -> dict[str, Any]:
        """What the learnt filters depend on. Raises `InputError`: see `start` and `token`."""
        found = {"frozen_dropout": self.frozen_dropout, "filter_init": self.start(config)}
        return {**vars(config), **found, "filter_token": self.token(task)}
