"""Sources of readings, one file per kind of source. See docs/add-a-source.md."""
