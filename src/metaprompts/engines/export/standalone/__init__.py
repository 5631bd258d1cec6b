"""What is written beside an exported model, word for word; it needs NumPy and Pillow, and no metaprompts."""
