"""Images, labels and joints from disk to tensors; knows nothing of the model."""
