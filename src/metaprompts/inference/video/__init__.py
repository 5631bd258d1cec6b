"""Predict videos with temporal smoothing."""
