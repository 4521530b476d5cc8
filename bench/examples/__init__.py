"""The files that `bench new` copies under an author's own name."""
