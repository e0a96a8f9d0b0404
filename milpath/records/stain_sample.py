"""Which tiles of a bag, and which rows and columns of a tile, its stains are estimated from."""

# Of a bag: tiles, and pixels along each side of a tile.
MOST_TILES, _GRID = 256, 32


def sampled_tiles(num_tiles: int, most: int = MOST_TILES) -> list[int]:
    """Return which tiles of a bag something is estimated from: evenly spaced, at most 256 of them for its stains.

    Example:
        >>> len(sampled_tiles(10)), sampled_tiles(512)[:3]
        (10, [0, 2, 4])
    """
    count = min(num_tiles, most)
    return [index * num_tiles // count for index in range(count)]


def sampled_lines(side: int) -> list[int]:
    """Return which rows or columns of a tile are taken: at most 32, evenly spaced.

    Example:
        >>> sampled_lines(128)[:3]
        [2, 6, 10]
    """
    count = min(side, _GRID)
    return [(index * side + side // 2) // count for index in range(count)]
