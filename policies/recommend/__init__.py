"""Policies: each turns readings into a recommendation. One file a policy."""
