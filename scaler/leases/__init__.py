"""High availability: daemons share the workloads by leases, and only a holder writes."""
