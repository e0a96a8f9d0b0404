"""Several folds of a cross-validation tested together."""
