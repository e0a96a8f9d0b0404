"""Checks of data before a training: duplicates, patients with two names, and labels that follow what is no tissue."""
