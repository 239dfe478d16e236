"""Losses as plain functions of tensors, one family per file."""
