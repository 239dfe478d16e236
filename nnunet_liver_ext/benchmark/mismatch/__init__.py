"""The mismatch test: how much a model relies on the other image of a pair."""
