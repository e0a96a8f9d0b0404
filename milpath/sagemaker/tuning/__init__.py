"""Hyperparameter searches: ranges of configuration keys, and the request."""
