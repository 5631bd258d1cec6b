"""Images of predictions: arrays in, uint8 RGB arrays out. Knows nothing of models."""
