"""Images, labels and joints from disk to tensors; independent of the model."""
