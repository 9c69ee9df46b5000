"""A live period looked back at: what happened, what it cost, and what other policies would have done in its place."""
