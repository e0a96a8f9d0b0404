"""Configuration of the commands: root schemas, command-line parsing and one-line errors."""
