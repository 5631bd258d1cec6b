"""Training recipes: their sections, the shipped ones, and how a file is read."""
