"""The cost of the same SLO: ours, every rival and the oracle on the shared traces."""
