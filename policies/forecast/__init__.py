"""Forecasts with quantiles, chosen by a rolling back-test, falling back to the reactive one when none does better."""
