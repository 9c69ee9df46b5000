"""Modal: its client, and the functions of deployed apps."""
