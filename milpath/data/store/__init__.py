"""Bags at rest: the format, its reader, its writer, and stores built from a source or a frozen encoder."""
