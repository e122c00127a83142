"""Checkpoints with only the tokens that some texts need."""
