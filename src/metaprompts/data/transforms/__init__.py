"""Random and fixed changes of a sample; each module holds one kind."""
