"""Which files belong together: predictions, references, images."""
