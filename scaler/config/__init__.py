"""YAML in, validated frozen specifications out; every error at once, with file, path, value, rule and remedy."""
