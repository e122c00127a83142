"""The embedded demo: a generated question-answering data set and small models that learn it from scratch."""
