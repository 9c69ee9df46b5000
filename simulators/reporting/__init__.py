"""Runs as pages to read: figures in words, tables, and plots that need no network."""
