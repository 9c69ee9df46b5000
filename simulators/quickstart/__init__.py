"""The embedded world of the quickstart, on the daemon's clock."""
