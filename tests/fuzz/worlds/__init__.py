"""The swarm: random worlds and workloads, each from one seed, and the invariants of every tick.

``python -m tests.fuzz.worlds --worlds 2000`` runs them. A failure names its seed, and the command that runs it again.
"""
