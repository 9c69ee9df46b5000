"""One package per cloud: session, credentials, error mapping.

Only these and the adapters import SDKs.
"""
