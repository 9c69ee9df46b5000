"""Service models: measured step times of engines, with their provenance."""
