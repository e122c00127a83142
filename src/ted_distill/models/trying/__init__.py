"""What a model does with rows, padding and length, found out when it is opened, and kept."""
