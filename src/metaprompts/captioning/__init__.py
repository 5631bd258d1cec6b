"""Captions of pictures: from a file or a model, encoded once, kept on disk."""
