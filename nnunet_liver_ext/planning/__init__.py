"""Plans files: which network, which patch and batch, for how much memory."""
