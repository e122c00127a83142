"""Steps that do not wait for each other, made by several processes at once: of one run, or of a comparison."""
