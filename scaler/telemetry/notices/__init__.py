"""Notices to people: the conditions in a tick, the times of notices, and their delivery."""
