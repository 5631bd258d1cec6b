"""Pre-training a miniature Stable Diffusion on generated scenes: for trying the whole method without a GPU."""
