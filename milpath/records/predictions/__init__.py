"""Tables of predictions that are read again."""
