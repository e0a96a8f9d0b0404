"""Reading labels from the columns of a table."""
