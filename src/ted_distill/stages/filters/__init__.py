"""The filters that stages train: their arguments, where they start, what Stage I trains, its blocks' scores."""
