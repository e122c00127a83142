"""What of teacher and student is matched besides states, and how much each pair counts."""
