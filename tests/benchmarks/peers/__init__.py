"""Other simulators on the kernel's traffic and constants."""
