"""Inference engines over HTTP: their load and their sleep mode."""
