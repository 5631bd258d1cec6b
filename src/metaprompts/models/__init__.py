"""The model, its configuration, and how it is saved and loaded."""
