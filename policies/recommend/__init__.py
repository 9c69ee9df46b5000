"""Policies that turn readings into recommendations."""
