"""Configuration records of sources and pools, one module a cloud or system: pure data, no SDK."""
