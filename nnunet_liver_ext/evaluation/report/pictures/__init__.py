"""Pictures of the cases: slices of the image with the outlines of the masks."""
