"""Ablation studies: runs that differ in one factor, and its effect."""
