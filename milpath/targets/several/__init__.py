"""Several targets of one network."""
