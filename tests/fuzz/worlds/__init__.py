"""The swarm: random worlds and workloads, each from one seed, and what must hold in every turn of all of them.

``python -m tests.fuzz.worlds --worlds 2000`` runs them; a failure names its seed, and the command that runs it again.
"""
