"""Readers of known data sets in their published layout."""
