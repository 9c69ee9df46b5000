"""AWS: sessions, credentials, errors, batching, and what several adapters read."""
