"""The command `ted`."""
