"""Captions of images: from a file or a model, encoded once, kept on disk."""
