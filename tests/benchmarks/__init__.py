"""Benchmarks: ``python -m tests.benchmarks NAME`` prints one JSON line per figure; ``all`` runs every benchmark."""
