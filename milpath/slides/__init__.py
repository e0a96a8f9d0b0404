"""Slides: reading and cutting into tiles. Needs only NumPy and image libraries."""
