"""Small pyramids for tests, written as scanners write large ones."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image


def level2(panda_folder: Path, name: str = "0018ae58b01bdadc8e347995b69f99aa") -> np.ndarray:
    """Return the last level of a slide of `panda_pixels`, or of the drawn slides in its place."""
    return np.asarray(Image.open(panda_folder / "level2" / f"{name}.png").convert("RGB"))


def tissue(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return white glass with a few pink and purple spots."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 255, np.uint8)
    y, x = np.mgrid[:height, :width]
    for _ in range(4):
        centre, radius = rng.random(2) * (height, width), rng.uniform(0.08, 0.2) * min(height, width)
        spot = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        picture[spot] = rng.integers((120, 40, 90), (220, 120, 180), (spot.sum(), 3))
    return picture


def write_pyramid(path: Path, last: np.ndarray, factors=(4, 2, 1), tile: int | None = 64, **words) -> Path:
    """Write a picture as the last level of a pyramid whose other levels are the picture enlarged.

    Args:
        path: The file.
        last: `(height, width)` or `(height, width, samples)`.
        factors: Size of each level in sizes of the picture, the largest first.
        tile: Side of a piece in pixels; None writes strips.
        words: Further words for tifffile, such as `compression`.
    """
    words = {"photometric": "rgb", "compression": "zlib", "metadata": None, "resolutionunit": "CENTIMETER"} | words
    if tile is not None:
        words["tile"] = (tile, tile)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, bigtiff=words.pop("bigtiff", False)) as writer:
        for factor in factors:
            microns = 0.5 * factors[0] / factor
            level = last.repeat(factor, 0).repeat(factor, 1)
            writer.write(level, resolution=(10_000 / microns,) * 2, subfiletype=int(factor != factors[0]), **words)
    return path
