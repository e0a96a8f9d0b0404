"""Slides and tiles to the features of a pretrained encoder: streamed, resumable, without pixels on disk."""
