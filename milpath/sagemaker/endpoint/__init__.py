"""The endpoint: from the body of a request to predictions."""
