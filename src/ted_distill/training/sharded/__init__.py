"""What several processes divide between them: weights, and rows."""
