"""Evaluation: metrics, and the test-time protocols of the published numbers."""
