"""Quantile forecasts, selected by a rolling back-test, with the reactive candidate as the fallback."""
