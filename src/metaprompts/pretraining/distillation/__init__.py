"""A small encoder that learns to give a VAE's latents."""
