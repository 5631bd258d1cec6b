"""How long each part of a prediction takes, and how much memory, by each engine."""
