"""What a recipe says of data and augmentation, one file a task."""
