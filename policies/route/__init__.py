"""The split of a workload's requests among its pools and providers."""
