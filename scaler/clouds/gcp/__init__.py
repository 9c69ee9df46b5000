"""Google Cloud: sessions, credentials, errors, and what several adapters read."""
