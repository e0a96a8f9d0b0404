"""One uploaded slide or bag of tiles: checked, answered, shown and forgotten."""
