"""Shadow policies: they decide on the same readings as the live policy, write nothing, and are compared with it."""
