"""Readers of image, label, depth, annotation and list files."""
