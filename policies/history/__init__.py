"""Past ticks as windows, and the memory of each pool built from them."""
