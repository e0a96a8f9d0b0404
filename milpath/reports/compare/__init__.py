"""Comparison of several runs on the same bags: what is compared, metrics, curves, disagreements and the page."""
