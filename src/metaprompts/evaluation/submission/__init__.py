"""Predictions in the form that the benchmarks' servers take."""
