"""Helpers that do not depend on the model: files, locks, memory, progress, fingerprints."""
