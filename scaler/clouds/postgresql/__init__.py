"""PostgreSQL: connections, and the leases and snapshots that daemons keep in a database."""
