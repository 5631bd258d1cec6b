"""The whole main job on the embedded models, ending in a report."""
