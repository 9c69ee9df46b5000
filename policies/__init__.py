"""Pure functions from recorded readings to a decision: a size and its reasons.

Nothing in this package reads a clock, a file, the network or a random number, logs, or awaits (the import contracts
prove it), so the daemon, ``replay`` and the simulator run the very same code. Start at `pipeline.decide`.
"""
