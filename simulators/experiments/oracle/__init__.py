"""The clairvoyant oracle: the cheapest plan that meets the SLO, and a lower cost bound.

The oracle knows the future. The bound is a lower bound of the cost.
"""
