"""Attention overlays of a bag, on the thumbnail of its slide or on its assembled tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.data.store.bag_store import BagStore, TileRows
from milpath.data.store.level0_positions import level0_positions, resolution_of
from milpath.drawing.heatmap import draw_beside_truth, draw_overlay, label_map, tile_span
from milpath.slides.readers.slide import Slide

Pixels = NDArray[np.uint8]
LONGEST_SIDE = 700
# Assembled tiles leave gaps where no tile was selected; white would look like the slide background.
NO_TILE = 236

_STRIP_PIXELS = 4096 * 4096
# Levels of a mask and of a slide are rounded in their own ways.
_SIDES = 0.02


@dataclass(frozen=True)
class SlidePicture:
    """The thumbnail of a slide.

    Attributes:
        pixels: uint8 `(height, width, 3)`.
        scale: Thumbnail pixels per pixel of level 0.
        microns_per_pixel: Resolution of the thumbnail; `None` if unknown.
    """

    pixels: Pixels
    scale: float
    microns_per_pixel: float | None = None


@dataclass(frozen=True)
class Truth:
    """The manual annotation of a slide.

    Attributes:
        mask: int `(any height, any width)` of the same field as the thumbnail.
        values: Mask value to its name, the most important first; other values stay transparent.
    """

    mask: NDArray[np.integer]
    values: Mapping[int, str]


def put_together(
    tiles: Pixels, x: NDArray[np.floating], y: NDArray[np.floating], longest_side: int = LONGEST_SIDE
) -> tuple[SlidePicture, float, float]:
    """Assemble the tiles of a bag at their positions.

    Args:
        tiles: uint8 `(tiles, size, size, 3 or 1)`.
        x: `(tiles,)` left edges; NaN for tiles without a position.
        y: `(tiles,)` top edges.
        longest_side: Of the picture, in pixels.

    Returns:
        The picture, and the offsets to subtract from x and y for positions in it.
    """
    size = tiles.shape[1]
    left, top = float(np.nanmin(x)), float(np.nanmin(y))
    width, height = float(np.nanmax(x)) + size - left, float(np.nanmax(y)) + size - top
    scale = min(1.0, longest_side / max(width, height))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.full((*shape, 3), NO_TILE, np.uint8)
    for tile, tile_x, tile_y in zip(tiles, x, y, strict=True):
        if np.isnan(tile_x) or np.isnan(tile_y):
            continue
        rows = tile_span(tile_y - top, size, scale, shape[0])
        columns = tile_span(tile_x - left, size, scale, shape[1])
        target = columns.stop - columns.start, rows.stop - rows.start
        if min(target) > 0:
            picture = Image.fromarray(tile if tile.shape[2] == 3 else np.repeat(tile, 3, axis=2))
            canvas[rows, columns] = np.asarray(picture.resize(target, Image.Resampling.BILINEAR))
    return SlidePicture(canvas, scale), left, top


def draw_bag_overlay(
    store: BagStore,
    chosen: TileRows | int,
    weights: NDArray[np.floating],
    title: str = "",
    picture: SlidePicture | None = None,
    *,
    truth: Truth | None = None,
    alpha: float = 0.6,
    colour_map: str = "viridis",
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    beside_truth: bool = True,
    numbers: Mapping[int, str] = MappingProxyType({}),
) -> Image.Image | None:
    """Draw attention on the tissue of a bag, next to the ground truth if a mask or tile labels are known.

    Args:
        store: Store of the tiles.
        chosen: Position of the bag, or its tiles (`store.tile_slice`), all of one slide.
        weights: `(tiles,)` attention.
        title: Title above the picture.
        picture: Thumbnail of the slide; `None` assembles the tiles at their positions.
        truth: Annotation of the slide; `None` shows the tile labels, if there are any.
        alpha: Opacity of the colours at the high end, in [0, 1].
        colour_map: One of `picture_frame.COLOUR_MAPS`.
        limits: Values at the ends of the colour bar; `None` means those of the weights.
        signed: Whether the weights are contributions of any sign; needs limits.
        beside_truth: Whether to draw the ground truth if it is known.
        numbers: Position of a tile to the number written on it.

    Returns:
        The picture; `None` if the positions of the tiles are unknown, or the store contains features and no `picture`
        is given.
    """
    chosen = store.tile_slice(chosen) if isinstance(chosen, int) else chosen
    size: float
    if picture is None:
        positions = positions_of(store, chosen)
        if positions is None or len(store.tile_shape) != 3:
            return None
        (x, y), size = positions, store.tile_shape[0]
        picture, left, top = put_together(np.asarray(store.tiles[chosen]), x, y)
        x, y = x - left, y - top
        resolution = resolution_of(store, chosen)[0]
        microns = None if resolution is None else resolution / picture.scale
    else:
        places = level0_positions(store, chosen)
        if places is None:
            return None
        x, y, size = places
        microns = picture.microns_per_pixel
    overlay = draw_overlay(
        picture.pixels, weights, x, y, size, picture.scale,
        title=title, microns_per_pixel=microns, alpha=alpha, colour_map=colour_map, limits=limits, signed=signed,
        numbers=numbers,
    )  # fmt: skip
    if not beside_truth:
        return overlay
    if truth is not None:
        return draw_beside_truth(overlay, picture.pixels, truth.mask, truth.values)
    labels = known_labels(store, chosen)
    if labels is None:
        return overlay
    known = label_map(labels, x, y, size, picture.scale, (picture.pixels.shape[0], picture.pixels.shape[1]))
    return draw_beside_truth(overlay, picture.pixels, known, {1: "tile known to matter"}, alpha=0.45)


def known_labels(store: BagStore, chosen: TileRows) -> NDArray[np.int64] | None:
    """Return the tile labels of a bag; `None` if none is known."""
    labels = store.labels_of_tiles(chosen)
    return None if labels is None or (labels < 0).all() else labels


def positions_of(store: BagStore, chosen: TileRows) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return x and y of the tiles of a bag; `None` if they are unknown or from more than one level."""
    table: Mapping[str, object] = dict.fromkeys(store.description["tile_columns"])
    if not {"x", "y"} <= set(table):
        return None
    rows = store.tile_rows(chosen)
    x, y = rows["x"].to_numpy(np.float64), rows["y"].to_numpy(np.float64)
    if np.isnan(x).all() or ("level" in rows and rows["level"].nunique() > 1):
        return None
    return x, y


def require_opacity(alpha: float) -> None:
    """Refuse an opacity that is none."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha} must be in [0, 1]: the opacity of the highest attention")


def read_mask(mask: Slide, width: int, height: int) -> NDArray[np.uint8]:
    """Return the mask value at the centre of each pixel of a thumbnail, without interpolation, uint8 `(height, width)`.

    Args:
        mask: Open mask of the same field as the thumbnail; its values are in the red channel.
        width: Width of the thumbnail in pixels.
        height: Height of the thumbnail in pixels.

    Raises:
        ValueError: If the mask has another shape than the thumbnail: it is not that of the slide.
    """
    across, down = mask.level_sizes[0].width / width, mask.level_sizes[0].height / height
    # A side of a thumbnail is rounded to whole pixels.
    if abs(across - down) > max(across, down) * (_SIDES + 2 / min(width, height)):
        raise ValueError(
            f"{mask.path.name} has {mask.level_sizes[0].width} x {mask.level_sizes[0].height} px, another shape than its "
            f"slide ({width} x {height} px as a thumbnail); use the mask that belongs to the slide"
        )
    enough = [level for level, size in enumerate(mask.level_sizes) if size.width >= width and size.height >= height]
    level = enough[-1] if enough else 0
    size = mask.level_sizes[level]
    rows = ((np.arange(height) + 0.5) * size.height / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * size.width / width).astype(np.int64)
    values = np.empty((height, width), np.uint8)
    step = max(1, _STRIP_PIXELS // size.width)
    for top in range(0, size.height, step):
        chosen = (rows >= top) & (rows < top + step)
        if chosen.any():
            strip = mask.read(level, 0, top, size.width, min(step, size.height - top))
            values[chosen] = strip[rows[chosen] - top][:, columns, 0]
    return values
