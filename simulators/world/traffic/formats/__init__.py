"""Readers of traffic formats: one file for tables, one for each kind of JSON."""
