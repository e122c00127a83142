"""Compatibility with the authors' code: options that give the same numbers, and reading its checkpoints."""
