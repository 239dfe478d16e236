"""Batches: seeded and ordered loading, sampling, crops, augmentation."""
