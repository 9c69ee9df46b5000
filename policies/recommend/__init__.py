"""Policies that compute recommendations from readings."""
