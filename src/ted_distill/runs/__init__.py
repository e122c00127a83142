"""A recipe, its run, and the table at the end."""
