"""Readers of all slide formats, with one interface."""
