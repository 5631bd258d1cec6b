"""Images of predictions: arrays in, uint8 RGB arrays out. Independent of models."""
