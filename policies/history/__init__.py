"""Past ticks as windows, and what is learned of each pool from them."""
