"""The method: losses, filters and pairs of blocks, in tensors and modules. Start here."""
