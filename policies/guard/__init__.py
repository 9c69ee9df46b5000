"""The guard: limits that hold for every policy, before and after stabilization."""
