"""Loads YAML files into validated frozen records, or reports all errors with file, key, value, rule and remedy."""
