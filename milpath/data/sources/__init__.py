"""Data sets, one file each: sources that describe themselves and write themselves into a bag store."""
