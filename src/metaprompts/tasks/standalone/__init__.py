"""The code written next to an exported model, verbatim; it needs NumPy and Pillow, but not metaprompts."""
