"""Heads, which turn rearranged maps into raw predictions."""
