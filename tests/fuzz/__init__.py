"""Fuzzing: random decision sequences and mutated inputs against invariants (`make fuzz`)."""
