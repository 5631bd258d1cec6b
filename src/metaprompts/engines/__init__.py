"""Inference engines: the same model, faster."""
