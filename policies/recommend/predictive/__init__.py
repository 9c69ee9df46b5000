"""The predictive policy: engine load, latency models, queue deadline and forecast margin."""
