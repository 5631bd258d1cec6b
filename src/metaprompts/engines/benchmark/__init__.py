"""Benchmark: time and memory of each part of a prediction, by each engine."""
