"""Where readings come from: one file a kind of source. See docs/add-a-source.md."""
