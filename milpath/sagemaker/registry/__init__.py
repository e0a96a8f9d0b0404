"""The model registry: packages of a network with its card, metrics, approval and the digests of its data."""
