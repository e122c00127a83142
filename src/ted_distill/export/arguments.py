"""The arguments of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ..ranges import above, between, check_ranges, described


@described
@dataclass
class ExportArguments:
    """What is written, and how much it may differ from the checkpoint."""

    _argument_group_name: ClassVar[str] = "export"

    int8: bool = False
    """also write onnx/model_quantized.onnx, with weights in int8"""
    test: str | None = None
    """compare on the rows of this recipe or data file [generated texts]"""
    max_changed: Annotated[float, between(0, 1)] = 0.02
    """largest share of predictions that int8 may change; of scores, see docs"""
    max_difference: Annotated[float, above(0)] = 1e-4
    """largest difference of a logit of onnx/model.onnx from PyTorch's, as a share of the largest if that is above 1"""

    def __post_init__(self) -> None:
        """Raises `InputError` for values outside their ranges."""
        check_ranges(self)
