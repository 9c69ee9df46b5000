"""Cost advice: cost of a unit of demand on each offer, and the cheapest purchase.

All figures have formulas and sources.
"""
