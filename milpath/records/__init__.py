"""Reading and writing of records: atomic files, digests, tables, provenance of a run."""
