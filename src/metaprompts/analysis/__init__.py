"""Statistics and pictures of what meta prompts respond to."""
