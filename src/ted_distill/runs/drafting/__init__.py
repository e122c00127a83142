"""`ted init`: a recipe drafted for a teacher and a data file, every value with its reason."""

from .draft import Draft, check_new, draft_from, draft_recipe
from .naming import data_name, run_name
