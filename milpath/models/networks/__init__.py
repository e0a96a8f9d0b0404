"""Networks, one per file: an encoder of tiles and the aggregation of a bag."""
