"""Limits that all workloads of a daemon share, and each workload's claims on them."""
