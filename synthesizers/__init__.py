"""The synthesizers: one file per method, one paper per file."""
