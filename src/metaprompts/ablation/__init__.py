"""Many trainings that differ in one thing, and what it was worth."""
