"""A soak: daemons under random faults for a long time, their memory, descriptors and threads sampled (`make soak`)."""
