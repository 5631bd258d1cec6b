"""Read frames from clips, folders and cameras, and write clips."""
