"""Networks and encoders that a configuration chooses, built."""
