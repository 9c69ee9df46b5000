"""The modules of the commands, one per command, and the texts of their help."""
