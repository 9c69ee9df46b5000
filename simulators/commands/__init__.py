"""What the command line's verbs about simulated worlds do: one file a verb."""
