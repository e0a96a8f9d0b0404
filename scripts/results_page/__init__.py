"""The page of results, made from the JSON files of the commands."""
