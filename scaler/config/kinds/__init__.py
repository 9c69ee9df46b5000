"""Configuration records of sources and pools, one module per cloud or system: pure data without SDKs."""
