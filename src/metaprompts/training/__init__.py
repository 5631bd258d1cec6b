"""Training: loop, parameter groups, schedules, loaders, progress."""
