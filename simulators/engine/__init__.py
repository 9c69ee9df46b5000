"""The simulation engine: the compiled kernel and the service models that it runs."""
