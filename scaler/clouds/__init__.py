"""One room a cloud: session, credentials, error mapping. The only place, with the adapters, where SDKs are imported."""
