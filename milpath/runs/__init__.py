"""Runs: building objects from a configuration, resuming, and writing results and the run folder."""
