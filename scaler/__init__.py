"""The daemon: reads metrics and pool sizes, decides by `policies`, and resizes pools.

It records the reason of each decision.
"""
