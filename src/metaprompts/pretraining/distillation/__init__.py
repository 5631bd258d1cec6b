"""Distillation of a VAE's encoder into a small encoder."""
