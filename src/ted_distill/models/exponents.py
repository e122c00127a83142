"""Numbers such as `1e-5`, which YAML 1.1 takes for texts."""

from __future__ import annotations

import re
from typing import Any

EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


def with_numbers(value: Any) -> Any:
    """A value in which texts such as `1e-5`, which PyYAML does not take for numbers, are numbers."""
    if isinstance(value, dict):
        return {key: with_numbers(part) for key, part in value.items()}
    if isinstance(value, list):
        return [with_numbers(part) for part in value]
    return float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
