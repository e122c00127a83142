"""Extractive question answering in the form of SQuAD."""
