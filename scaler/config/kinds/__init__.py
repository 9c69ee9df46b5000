"""Configuration records of sources and pools, one module per cloud or system.

The records are pure data without SDKs.
"""
