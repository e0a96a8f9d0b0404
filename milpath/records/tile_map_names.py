"""Names of the maps of a bag besides its attention: `attention_<class>` and `contribution_<class>`."""

ATTENTION = "attention_"
CONTRIBUTION = "contribution_"


def is_tile_map(name: str) -> bool:
    """Whether a column of a table is a map of the tiles."""
    return name.startswith((ATTENTION, CONTRIBUTION))


def split_map_name(name: str) -> tuple[str, str]:
    """Return quantity and class of a map.

    Example:
        >>> split_map_name("contribution_grade_2")
        ('contribution', 'grade_2')
    """
    quantity, _, of_class = name.partition("_")
    return quantity, of_class


def is_signed(name: str) -> bool:
    """Whether the values of a map may be below 0."""
    return name.startswith(CONTRIBUTION)
