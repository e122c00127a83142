"""What Stage II has of a teacher: its inputs, its scores, how much its states vary, a frozen form."""
