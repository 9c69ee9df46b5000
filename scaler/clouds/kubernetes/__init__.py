"""Kubernetes: sessions, credentials, watches, and reads that several adapters share."""
