"""Pre-training a miniature Stable Diffusion on generated scenes: the whole method can be tried without a GPU."""
