"""Snapshots of what workloads have learned, with which another daemon continues."""
