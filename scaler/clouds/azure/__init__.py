"""Azure: sessions, credentials, errors, batching, and reads that several adapters share."""
