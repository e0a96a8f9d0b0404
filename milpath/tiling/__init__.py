"""Cutting many slides into one bag store: plan, worker processes, work folder and merge."""
