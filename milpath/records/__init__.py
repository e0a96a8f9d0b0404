"""What is written down and how: files that appear whole, digests, the record of a run."""
