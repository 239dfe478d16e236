"""Several models on the same cases, from the results that `evaluate` wrote."""
