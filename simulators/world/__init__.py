"""The simulated world: traffic, engines and pools on one clock, and their metrics and queues as read from outside."""
