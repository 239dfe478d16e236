"""Measuring files: one class, one case, a pair of images, many cases at a time."""
