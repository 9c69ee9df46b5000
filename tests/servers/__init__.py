"""Servers and faults for the tests, each on its own loopback port."""
