"""Fuzzing: random decision sequences and mutated inputs against what must always hold (`make fuzz`)."""
