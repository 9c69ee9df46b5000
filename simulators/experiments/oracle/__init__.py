"""The clairvoyant oracle: the cheapest plan that meets the SLO with the future known, and a lower bound of the cost."""
