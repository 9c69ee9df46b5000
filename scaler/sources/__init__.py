"""Sources of readings, one file per kind of source. See docs/how-to/add-a-source.md."""
