"""Snapshots of what workloads have learned: a daemon that takes a workload over continues with them."""
