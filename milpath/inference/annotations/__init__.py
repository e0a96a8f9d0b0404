"""Predictions as annotations for slide viewers: GeoJSON for QuPath, XML for ASAP."""
