"""Attention overlays: heat maps of tile weights on the thumbnail of a slide."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from milpath.drawing.picture_frame import (
    SIGNED_MAP,
    ColourBar,
    attention_limits,
    colours_of,
    frame,
    require_finite_attention,
)
from milpath.drawing.tile_numbers import write_numbers
from milpath.drawing.warning_strip import with_warning

Pixels = NDArray[np.uint8]
Values = NDArray[np.floating]
# Okabe and Ito 2008, distinguishable with colour blindness; without black (too similar to ink) and yellow (too similar
# to paper).
CATEGORY_COLOURS = ((213, 94, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178))
OUTLINE = (70, 70, 70)
# A dark line is invisible on dark tissue, so tiles with enough room get a light line inside it.
OUTLINE_INSIDE = (240, 240, 240)
ROOM_FOR_TWO_LINES = 9
# Tissue without attention stays visible: the low end has this fraction of the opacity of the high end.
LOW_OPACITY = 0.25


def tile_span(start: float, tile_size: float, scale: float, length: int) -> slice:
    """Return the pixels of a thumbnail that a tile covers along one axis: those whose centre is in the tile.

    Neighbouring tiles neither share a pixel nor leave a gap, at any scale. A tile smaller than a pixel covers one.

    Args:
        start: Left or top edge in pixels of the level from which the tile was read; may be negative (padding).
        tile_size: Side of the tile in the same pixels.
        scale: Thumbnail pixels per such pixel.
        length: Width or height of the thumbnail.

    Example:
        >>> tile_span(128, 128, 0.125, 1000)
        slice(16, 32, None)
    """
    first = int(np.ceil(start * scale - 0.5))
    last = max(int(np.ceil((start + tile_size) * scale - 0.5)), first + 1)
    return slice(min(max(first, 0), length), min(max(last, 0), length))


def attention_map(
    weights: Values, x: Values, y: Values, tile_size: float, scale: float, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return the map of tile weights at the size of a thumbnail; overlapping tiles are averaged (dense map).

    Args:
        weights: `(tiles,)`.
        x: `(tiles,)` left edges in pixels of the level from which the tiles were read; NaN for tiles without a
            position.
        y: `(tiles,)` top edges likewise.
        tile_size: Side of a tile in the same pixels.
        scale: Thumbnail pixels per such pixel.
        shape: Height and width of the thumbnail.

    Returns:
        `(height, width)`; NaN outside of tiles.

    Example:
        >>> attention_map(np.array([0.7, 0.3]), np.array([0, 2]), np.array([0, 0]), 2, 1.0, (1, 4)).tolist()
        [[0.7, 0.7, 0.3, 0.3]]
    """
    if not len(weights) == len(x) == len(y):
        raise ValueError(f"{len(weights)} weights need as many positions, got {len(x)} x and {len(y)} y")
    if not (0 < scale < np.inf and 0 < tile_size < np.inf):
        raise ValueError(f"scale and tile_size must be positive and finite, got {scale} and {tile_size}")
    require_finite_attention(weights)
    total, count = np.zeros(shape), np.zeros(shape)
    for weight, left, top in zip(weights, np.asarray(x, float), np.asarray(y, float), strict=True):
        if np.isnan(left) or np.isnan(top):
            continue
        area = tile_span(top, tile_size, scale, shape[0]), tile_span(left, tile_size, scale, shape[1])
        total[area] += weight
        count[area] += 1
    return np.asarray(np.divide(total, count, out=np.full(shape, np.nan), where=count > 0))


def opacity_of(values: Values, limits: tuple[float, float], colour_map: str) -> NDArray[np.float64]:
    """Return the share of the full opacity of each value between the limits, in [0, 1]; it increases with the value.

    With `SIGNED_MAP` it increases with the distance from the middle of the limits, where it is 0.

    Example:
        >>> opacity_of(np.array([0.0, 1.0]), (0.0, 1.0), "viridis").tolist()
        [0.25, 1.0]
    """
    low, high = limits
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.full(np.shape(values), 0.5)
    return np.abs(2 * share - 1) if colour_map == SIGNED_MAP else LOW_OPACITY + (1 - LOW_OPACITY) * share


def blend(thumbnail: Pixels, values: Values, limits: tuple[float, float], colour_map: str, alpha: float) -> Pixels:
    """Blend colours into a thumbnail where values exist, (1 - a) thumbnail + a colour; a is `alpha` times `opacity_of`.

    Args:
        thumbnail: uint8 `(height, width, 3)`.
        values: `(height, width)`, NaN where the thumbnail stays unchanged.
        limits: Values at the two ends of the colour map.
        colour_map: Name of the colour map.
        alpha: Opacity at the high end, in [0, 1].

    Returns:
        uint8 `(height, width, 3)`, aligned with the thumbnail.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    known = ~np.isnan(values)
    opacity = (alpha * opacity_of(values[known], limits, colour_map))[:, None].astype(np.float32)
    result = thumbnail.copy()
    mixed = (1 - opacity) * thumbnail[known] + opacity * colours_of(values[known], limits, colour_map)
    result[known] = np.round(mixed).astype(np.uint8)
    return result


def outline_tiles(picture: Pixels, x: Values, y: Values, tile_size: float, scale: float) -> Pixels:
    """Draw the inner edge of each tile, visible on bright and dark tissue, and return the picture."""
    result = picture.copy()
    for left, top in zip(np.asarray(x, float), np.asarray(y, float), strict=True):
        if np.isnan(left) or np.isnan(top):
            continue
        rows = tile_span(top, tile_size, scale, picture.shape[0])
        columns = tile_span(left, tile_size, scale, picture.shape[1])
        area = result[rows, columns]
        _draw_edge(area, OUTLINE)
        if min(area.shape[:2]) >= ROOM_FOR_TWO_LINES:
            _draw_edge(area[1:-1, 1:-1], OUTLINE_INSIDE)
    return result


def _draw_edge(area: Pixels, colour: tuple[int, int, int]) -> None:
    """Colour the outermost pixels of an area."""
    for edge in (area[:1], area[-1:], area[:, :1], area[:, -1:]):
        edge[...] = colour


def draw_overlay(
    thumbnail: Pixels,
    weights: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    tile_size: float,
    scale: float,
    *,
    title: str = "",
    microns_per_pixel: float | None = None,
    alpha: float = 0.6,
    colour_map: str = "viridis",
    outlines: bool = True,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    numbers: Mapping[int, str] = MappingProxyType({}),
    warning: str = "",
) -> Image.Image:
    """Draw attention over the thumbnail of a slide, with colour bar, scale bar and outlines of the selected tiles.

    With overlapping tiles and without outlines this is the dense map. All that is needed are arrays: attention of any other
    program can be drawn.

    Args:
        thumbnail: uint8 `(height, width, 3)`.
        weights: `(tiles,)` attention, sums to 1.
        x: `(tiles,)` left edges in pixels of the level from which the tiles were read (`x0` in `attention.csv`: of level 0);
            NaN for a tile without a position, which is not drawn.
        y: `(tiles,)` top edges.
        tile_size: Side of a tile in the same pixels.
        scale: Thumbnail pixels per such pixel (see `read_thumbnail`).
        title: Title above the picture.
        microns_per_pixel: Resolution of the thumbnail; `None` draws no scale bar.
        alpha: Opacity of the colours at the high end, in [0, 1].
        colour_map: One of `picture_frame.COLOUR_MAPS`.
        outlines: Whether to outline tiles.
        limits: Weights at the ends of the colour bar; `None` uses `attention_limits`.
        signed: Whether the values are contributions of any sign instead of attention, drawn in blue below 0 and red above;
            `limits` must then be given, as far below 0 as above.
        numbers: Position of a tile to the number written on it, as of `tile_numbers.numbers_of_top_tiles`.
        warning: Written below the picture, such as `SlidePrediction.warning`.

    Raises:
        ValueError: If the arrays do not fit together, or attention is not finite.

    Example:
        >>> thumbnail = np.full((64, 96, 3), 240, np.uint8)
        >>> draw_overlay(thumbnail, np.array([0.7, 0.3]), [0, 128], [0, 128], tile_size=128, scale=0.25).mode
        'RGB'
    """
    weights, x, y = np.asarray(weights), np.asarray(x, np.float64), np.asarray(y, np.float64)
    _require_fitting(thumbnail, weights, x, y, tile_size, scale)
    if signed and (limits is None or limits[0] != -limits[1]):
        raise ValueError(f"contributions need limits as far below 0 as above, got {limits}")
    colour_map = SIGNED_MAP if signed else colour_map
    values = attention_map(weights, x, y, tile_size, scale, (thumbnail.shape[0], thumbnail.shape[1]))
    # Overlapping tiles are averaged, so the colour bar must end at the largest mean, not at the largest weight.
    shown = float(np.max(values, initial=0.0, where=~np.isnan(values)))
    limits = limits or attention_limits(weights, shown)
    picture = blend(thumbnail, values, limits, colour_map, alpha)
    if outlines:
        picture = outline_tiles(picture, x, y, tile_size, scale)
    if numbers:
        picture = write_numbers(picture, numbers, np.asarray(x, float), np.asarray(y, float), scale)
    on_white = blend(np.full((1, 256, 3), 255, np.uint8), np.linspace(0, 1, 256)[None], (0, 1), colour_map, alpha)[0]
    marked = (0.0, "0") if signed else (1 / max(len(weights), 1), "equal share")
    bar = ColourBar(limits, on_white, "contribution" if signed else "attention", marked)
    return with_warning(frame(picture, title, bar, microns_per_pixel), warning)


def _require_fitting(thumbnail: Pixels, weights: Values, x: Values, y: Values, tile_size: float, scale: float) -> None:
    """Refuse arrays that do not fit together, of which a picture could be drawn nevertheless."""
    if thumbnail.dtype != np.uint8 or thumbnail.ndim != 3 or thumbnail.shape[2] != 3:
        raise ValueError(f"the thumbnail must be uint8 (height, width, 3), not {thumbnail.dtype} {thumbnail.shape}")
    if weights.ndim != 1 or not weights.shape == x.shape == y.shape:
        raise ValueError(
            f"weights, x and y must be (tiles,) of the same length, not {weights.shape}, {x.shape} and {y.shape}"
        )
    if not (tile_size > 0 and scale > 0):
        raise ValueError(f"tile_size and scale must be above 0, not {tile_size} and {scale}")


def blend_mask(thumbnail: Pixels, mask: NDArray[np.integer], values: Mapping[int, str], alpha: float = 0.6) -> Pixels:
    """Blend one colour per named value of a mask into a thumbnail.

    Args:
        thumbnail: uint8 `(height, width, 3)`.
        mask: int `(any height, any width)` of the same field; scaled to the thumbnail without interpolation.
        values: Mask value to name, the most important first, which gets the most salient colour. Other values stay
            transparent.
        alpha: Opacity in [0, 1].
    """
    rows = _nearest(mask.shape[0], thumbnail.shape[0])
    columns = _nearest(mask.shape[1], thumbnail.shape[1])
    scaled = mask[rows][:, columns]
    result = thumbnail.copy()
    for value, colour in zip(values, category_colours(len(values)), strict=True):
        here = scaled == value
        result[here] = np.round((1 - alpha) * thumbnail[here] + alpha * np.array(colour)).astype(np.uint8)
    return result


def draw_beside_truth(
    overlay: Image.Image, thumbnail: Pixels, mask: NDArray[np.integer], values: Mapping[int, str], alpha: float = 0.6
) -> Image.Image:
    """Draw the ground truth next to an attention overlay.

    Args:
        overlay: From `draw_overlay`.
        thumbnail: The thumbnail of that overlay.
        mask: int, the label of each pixel or, from `label_map`, of each tile.
        values: Mask value to its name in the legend, the most important first.
        alpha: Opacity of the ground truth in [0, 1].
    """
    legend = list(zip(category_colours(len(values)), values.values(), strict=True))
    truth = frame(blend_mask(thumbnail, mask, values, alpha), "truth", legend=legend)
    canvas = Image.new("RGB", (overlay.width + truth.width, max(overlay.height, truth.height)), "white")
    canvas.paste(overlay, (0, 0))
    canvas.paste(truth, (overlay.width, 0))
    return canvas


def label_map(
    tile_labels: NDArray[np.integer], x: Values, y: Values, tile_size: float, scale: float, shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the label of the tile at each pixel of a thumbnail, -1 outside of tiles; overlaps get the larger label."""
    result = np.full(shape, -1, dtype=np.int64)
    for label, left, top in sorted(zip(tile_labels, np.asarray(x, float), np.asarray(y, float), strict=True)):
        if not (np.isnan(left) or np.isnan(top)):
            area = tile_span(top, tile_size, scale, shape[0]), tile_span(left, tile_size, scale, shape[1])
            result[area] = label
    return result


def category_colours(count: int) -> list[tuple[int, int, int]]:
    """Return colours that are distinguishable with colour blindness.

    Raises:
        ValueError: If there are fewer colours than requested.
    """
    if count > len(CATEGORY_COLOURS):
        raise ValueError(
            f"{count} categories cannot be distinguished by colour; name at most {len(CATEGORY_COLOURS)} of them"
        )
    return list(CATEGORY_COLOURS[:count])


def _nearest(source: int, target: int) -> NDArray[np.int64]:
    """Return the source pixel that contains the centre of each target pixel."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.int64)
