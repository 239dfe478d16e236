"""The toy experiment of "Cooperating networks" (section 3.1, figure 3)."""
