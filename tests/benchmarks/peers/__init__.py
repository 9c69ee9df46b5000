"""Other simulators on the kernel's own traffic and constants."""
