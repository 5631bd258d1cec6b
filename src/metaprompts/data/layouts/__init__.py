"""Readers of known data sets as their publishers lay them out: folders in, samples out."""
