"""Loads YAML files into validated frozen records, or reports all errors.

An error has file, key, value, rule and remedy.
"""
