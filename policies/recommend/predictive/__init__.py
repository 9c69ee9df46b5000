"""The predictive policy: load, latency model, queue deadline, forecast margin."""
