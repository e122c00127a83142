"""The authors' code: options that compute what it computes, and its checkpoints."""
