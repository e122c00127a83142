"""`ted check`: the models and the data of a recipe tried out together before anything is trained."""

from .examine import examine
from .report import Report
