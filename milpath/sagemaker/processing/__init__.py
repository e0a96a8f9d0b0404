"""Processing jobs: many slides in S3, shared out over instances."""
