"""What a unit of demand costs on what could be bought, and how to buy it: every figure with formula and source."""
