"""The daemon: reads the clouds, asks `policies` what to do, does it, and records why."""
