"""Kubernetes: sessions, credentials, watches, and what several adapters read."""
