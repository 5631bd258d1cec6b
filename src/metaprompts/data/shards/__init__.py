"""Samples in tar files, as WebDataset lays them out, with an index by which they are read in any order."""
