"""Frames of clips, folders and cameras, and clips of frames."""
