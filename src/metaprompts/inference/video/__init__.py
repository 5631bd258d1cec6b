"""Videos to predictions that are steady over time."""
