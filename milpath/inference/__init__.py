"""Inference on bags without labels: predictions and their files, overlays, GeoJSON and dense maps."""
