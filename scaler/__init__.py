"""The daemon: reads metrics and pool sizes, decides by `policies`, resizes pools, and records why."""
