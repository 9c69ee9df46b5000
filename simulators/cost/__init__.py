"""Cost advice: cost of a unit of demand on each offer, and the cheapest purchase, with formulas and sources."""
