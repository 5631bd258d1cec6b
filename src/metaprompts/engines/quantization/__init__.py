"""Post-training quantization: 8-bit weights and activations."""
