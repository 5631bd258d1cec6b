"""Captions of images: from a file or a model, encoded once and cached on disk."""
