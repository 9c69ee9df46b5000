"""Reports of runs: text, tables, and pages with plots that need no network."""
