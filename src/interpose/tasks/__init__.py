"""Tasks: one a file, each with a causal model, pairs, a network and, where it is known, the true answer."""
