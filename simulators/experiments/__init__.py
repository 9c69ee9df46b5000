"""Scenarios, runs, results, comparisons and the oracle."""
