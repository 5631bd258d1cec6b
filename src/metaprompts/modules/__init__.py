"""The networks: backbone, meta prompts, heads."""
