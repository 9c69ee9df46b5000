"""The simulated world: traffic, engines and pools on one clock.

Their metrics and queues are read as from outside.
"""
