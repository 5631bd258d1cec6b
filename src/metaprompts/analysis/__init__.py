"""Statistics and images of what meta prompts respond to."""
