"""Google Cloud: sessions, credentials, errors, and reads that several adapters share."""
