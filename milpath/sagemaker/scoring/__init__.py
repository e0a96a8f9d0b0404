"""Scoring many slides or bags in S3, by Processing or Batch Transform, into the tables of a prediction."""
