"""Convert readings to demand in replicas, and reject readings that cannot be true."""
