"""Score, size and speed of checkpoints in every format they may run in, measured side by side: one table."""
