"""Predictions against references: what is measured, compared and shown."""
