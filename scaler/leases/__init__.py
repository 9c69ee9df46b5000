"""High availability: several daemons share the workloads by leases, and only a lease's holder writes."""
