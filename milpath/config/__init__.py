"""The configuration of every command: its root keys, its command line, errors in one line."""
