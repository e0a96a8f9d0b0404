"""Bags of features that another program has made."""
