"""Whether attention shows what a network uses: curves of removed tiles, and how stable a ranking of tiles is."""
