"""The search for a better configuration.

Settings are tried on the simulator and validated on held-out traffic.
"""
