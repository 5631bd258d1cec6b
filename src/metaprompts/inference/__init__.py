"""From images to predictions: batches, windows, memory limits."""
