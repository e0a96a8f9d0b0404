"""Numbers from labels and predictions: NumPy only."""
