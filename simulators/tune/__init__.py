"""The search for a better configuration: settings tried on the simulator, validated on held-out traffic."""
