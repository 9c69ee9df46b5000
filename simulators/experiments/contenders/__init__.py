"""Other autoscalers as contenders: one template for each peer.

A template is completed with the scenario's bounds and pools.
"""
