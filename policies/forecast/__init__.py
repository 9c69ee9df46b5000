"""Quantile forecasts, selected by a rolling back-test.

The reactive candidate is the fallback.
"""
