"""Training recipes: their sections, the shipped recipes, and the loader."""
