"""Shadow policies: decide on the same readings, write nothing, and are compared."""
