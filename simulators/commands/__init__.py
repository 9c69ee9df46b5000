"""The command line's verbs that simulate, one file for each."""
