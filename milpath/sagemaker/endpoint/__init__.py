"""The endpoint: request parsing, prediction and responses."""
