"""Slides: reading, cutting into tiles, drawing. Numpy and image libraries alone."""
