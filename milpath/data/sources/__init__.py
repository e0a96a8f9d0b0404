"""Data sets: each describes itself and writes itself into a bag store, one file per data set."""
