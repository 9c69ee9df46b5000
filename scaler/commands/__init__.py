"""Modules of the command line's verbs, one per verb."""
