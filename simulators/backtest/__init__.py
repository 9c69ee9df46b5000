"""Backtest of a live period: its cost and notable periods, and what other policies would have done."""
