"""`ted show`: prints what a recipe would do, without running it."""

from .features import PlannedData
from .plan import Plan, PlannedModel, plan, with_data
from .show import show
from .stage_plans import PlannedMethod, PlannedStage, plan_stages
from .unknown import Unknown
