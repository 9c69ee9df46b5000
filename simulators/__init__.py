"""Simulated worlds behind the daemon's own ports."""
