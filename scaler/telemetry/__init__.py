"""Projections of the Tick: log line, metrics, health, dashboard."""
