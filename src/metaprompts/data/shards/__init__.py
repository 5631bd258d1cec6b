"""Samples in tar files in WebDataset's layout, with an index for reading in any order."""
