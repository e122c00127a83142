"""How many tokens of a row a drafted recipe has its models read."""

from __future__ import annotations

import numpy as np
import pytest

from ted_distill.runs.drafting.lengths import Lengths


@pytest.mark.parametrize(
    ("tokens", "limit", "chosen"),
    [
        ([8] * 100, None, 16),  # of rows that just fill it nobody could say whether they were cut
        ([7] * 100, None, 8),
        ([9] * 100, None, 16),
        ([10] * 199 + [300], None, 16),
        ([16] * 100, 16, 16),
        ([700] * 100, 4096, 512),
    ],
)
def test_nearly_all_rows_are_shorter_up_to_what_the_model_can_read(
    tokens: list[int], limit: int | None, chosen: int
) -> None:
    assert Lengths(np.array(tokens), limit).chosen == chosen


def test_a_shorter_length_is_proposed_for_a_few_long_rows() -> None:
    assert Lengths(np.array([20] * 96 + [600] * 4), 512).holding(95) == 24
