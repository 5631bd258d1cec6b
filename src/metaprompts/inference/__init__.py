"""Predict images in batches or windows, within a memory limit."""
