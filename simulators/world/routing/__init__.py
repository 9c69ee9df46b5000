"""The simulated gateway of a workload, and the token APIs to which it may send requests."""
