"""Foreign checkpoints as the start of our trainings: read safely, matched by name and shape."""
