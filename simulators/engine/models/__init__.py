"""Service models: measured step times of engines, as data with provenance."""
