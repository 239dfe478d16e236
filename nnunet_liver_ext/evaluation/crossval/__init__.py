"""Cross-validations: each case measured on the model that has not seen it."""
