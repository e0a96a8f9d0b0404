"""Metrics of survival: indices, curves, groups by risk."""
