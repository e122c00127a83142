"""What of teacher and student is matched beside states, and how much each pair counts."""
