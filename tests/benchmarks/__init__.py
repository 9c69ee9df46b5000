"""Figures: ``python -m tests.benchmarks NAME`` prints a JSON line each; ``all`` runs every one."""
