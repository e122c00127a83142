"""Narrower copies of a model, fitted to it."""
