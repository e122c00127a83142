"""What a recipe would do, without doing it: `ted show`."""

from .data import PlannedData
from .plan import Plan, PlannedModel, plan
from .show import show
from .stages import PlannedMethod, PlannedStage, plan_stages
from .unknown import Unknown

__all__ = [
    "Plan",
    "PlannedData",
    "PlannedMethod",
    "PlannedModel",
    "PlannedStage",
    "Unknown",
    "plan",
    "plan_stages",
    "show",
]
