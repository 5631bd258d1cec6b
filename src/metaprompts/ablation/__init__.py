"""Ablation studies: train runs that differ in one factor, and measure the effect of this factor."""
