"""What the command line's verbs do: one file a verb."""
