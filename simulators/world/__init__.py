"""The simulated world: traffic, engines and pools on one clock, and what can be seen of them from outside."""
