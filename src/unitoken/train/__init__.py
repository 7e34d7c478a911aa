"""Training: data, losses and the loops of the three stages (extra `[train]`)."""
