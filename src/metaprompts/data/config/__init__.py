"""The data and augment sections of recipes, one file per task."""
