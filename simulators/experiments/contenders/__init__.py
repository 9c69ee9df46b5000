"""The field's own autoscalers as contenders: one template a peer, filled in with the scenario's bounds and pools."""
