"""Bags without labels: prediction, its files, overlays, GeoJSON, the dense map."""
