"""The search for a better configuration: parameters tried on the simulator, judged on traffic the search never saw."""
