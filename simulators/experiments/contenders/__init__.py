"""Other autoscalers as contenders: one template for each peer, completed with the scenario's bounds and pools."""
