"""Pictures of predicted bags: overlays, maps of classes, top tiles."""
