"""Attention-based multiple-instance learning on histopathology."""
