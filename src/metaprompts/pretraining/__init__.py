"""Pre-train a miniature Stable Diffusion on generated scenes, to try out the whole method without a GPU."""
