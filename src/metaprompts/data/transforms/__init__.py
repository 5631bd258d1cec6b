"""Random and deterministic transforms of a sample, one module per kind."""
