"""Studies: which image and mask files belong to one patient and session."""
