"""Metrics and test-time inference: how good a prediction is, and how the published numbers were predicted."""
