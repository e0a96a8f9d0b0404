"""Metrics, intervals and tests computed from labels and predictions with NumPy."""
