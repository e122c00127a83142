"""What a comparison says of a pair of methods."""

from __future__ import annotations

from typing import Any

import pytest

from ted_distill.runs.compare.verdicts import verdicts

PAIR: dict[str, Any] = {"better": "ted", "worse": "kd", "difference": 2.5, "interval": [0.5, 4.6]}


@pytest.mark.parametrize(
    ("p_holm", "p_bootstrap_holm", "told_apart", "said"),
    [
        (0.017, 0.07, False, "TED and KD cannot be told apart: f1 +2.50 (95 % interval +0.50 to +4.60, p = 0.070)."),
        (0.2, 0.01, False, "TED and KD cannot be told apart: f1 +2.50 (95 % interval +0.50 to +4.60, p = 0.200)."),
        (0.03, 0.0001, True, "TED is better than KD: f1 +2.50 (95 % interval +0.50 to +4.60, p = 0.030)."),
        (None, 0.01, False, "TED and KD cannot be told apart: f1 +2.50 (95 % interval +0.50 to +4.60)."),
    ],
)
def test_the_p_value_that_is_said_is_the_one_that_decides(
    p_holm: float | None, p_bootstrap_holm: float, told_apart: bool, said: str
) -> None:
    pair = {**PAIR, "p_holm": p_holm, "p_bootstrap_holm": p_bootstrap_holm, "told_apart": told_apart}
    assert verdicts({"metric": "f1", "seeds": [1, 2, 3], "comparisons": [pair]}) == [said]
