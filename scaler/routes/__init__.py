"""Adapters of gateways that split requests, one file a kind."""
