"""Helpers that know nothing of the model: files, locks, memory, progress, fingerprints."""
