"""Traffic: traces read, made, described."""
