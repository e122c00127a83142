"""Scores while a model trains: the one path to them, the best one, when to stop, which weights are chosen."""
