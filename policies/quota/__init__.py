"""Limits that all workloads of a daemon share, and the claims of each workload on them."""
