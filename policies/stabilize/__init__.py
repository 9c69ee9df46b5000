"""From a need to a steady size: tolerance, windows, steps, pending replicas, zero."""
