"""Other autoscalers' settings as workload files: what they say, what of it is carried over, and what is not."""
