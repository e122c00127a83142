"""Filters that start from what the models compute on a sample of the training rows, instead of at random."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ...method.closed_form import TokenSums, least_squares, scaled_identity
from ...method.filters import Batch, FilterConfig, FilteredModel, Filters
from ...tasks.base import Task


def identity_start(config: FilterConfig) -> list[nn.Linear]:
    """A filter for each block of `config` that changes nothing."""
    starts = [nn.Linear(config.hidden_size, config.hidden_size) for _ in config.blocks]
    for start in starts:
        nn.init.eye_(start.weight)
        nn.init.zeros_(start.bias)
    return starts


@torch.no_grad()
def scaled_start(model: FilteredModel, config: FilterConfig, task: Task, batches: Iterator[Batch]) -> list[nn.Linear]:
    """A filter for each block of `config`: the identity in units of the standard deviation of the block's states.

    Args:
        model: the frozen model, with identity filters after the blocks of `config`.

    Raises:
        InputError: see `method.closed_form.scaled_identity`.
    """
    sums = [TokenSums() for _ in config.blocks]
    for batch in batches:
        tokens = task.mask(batch) != 0
        for of_block, states in zip(sums, model(batch, need_logits=False).states, strict=True):
            of_block.add(states[tokens])
    return [scaled_identity(of_block, config.filter_output_dim) for of_block in sums]


@torch.no_grad()
def least_squares_start(
    student: FilteredModel, teacher: FilteredModel, task: Task, batches: Iterator[Batch]
) -> list[nn.Linear]:
    """A filter for each pair: the best linear map from the student's states to the teacher's filtered ones.

    Args:
        student: with identity filters after the pairs' blocks; it is put into eval mode.
        teacher: frozen, with its filters.

    Raises:
        InputError: see `method.closed_form.least_squares`.
    """
    sums = [TokenSums() for _ in student.blocks]
    student.eval()
    for batch in batches:
        tokens = task.mask(batch) != 0
        states = zip(student(batch, need_logits=False).states, teacher(batch).states, strict=True)
        for of_pair, (of_student, of_teacher) in zip(sums, states, strict=True):
            of_pair.add(of_student[tokens], of_teacher[tokens])
    return [least_squares(of_pair) for of_pair in sums]


def start_from(filters: Filters, starts: list[nn.Linear]) -> None:
    """Give linear filters the weights of `starts`."""
    for filter_, start in zip(filters.filters, starts, strict=True):
        filter_.load_state_dict(start.state_dict())
