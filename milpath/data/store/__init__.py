"""Bag stores: the format, its reader and writer, and stores built from a source or a frozen encoder."""
