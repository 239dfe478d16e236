"""Foreign checkpoints as the start of our trainings: read safely, match by name and shape, write
what trainers read."""
