"""Backtest of a live period: cost, notable periods, and the results of other policies."""
