"""Attention on tissue: which tile carries how much of the decision, drawn where the tile lies."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milpath.drawing.picture_frame import ColourBar, attention_limits, colours_of, frame, require_finite_attention

Pixels = NDArray[np.uint8]
Values = NDArray[np.floating]
# Okabe and Ito 2008, told apart by every eye; black and yellow are left out, the one too like ink, the other like paper.
CATEGORY_COLOURS = ((213, 94, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (230, 159, 0), (0, 114, 178))
OUTLINE = (70, 70, 70)
# A dark line cannot be seen on dark tissue: a light one runs beside it, inside, in tiles with room for it.
OUTLINE_INSIDE = (240, 240, 240)
ROOM_FOR_TWO_LINES = 9
# Tissue without attention stays to be seen: the colour of the low end has this part of the opacity of the high end.
LOW_OPACITY = 0.25


def tile_span(start: float, tile_size: float, scale: float, length: int) -> slice:
    """Return the pixels of a thumbnail along one side that a tile covers: those whose middle lies in the tile.

    Neighbouring tiles share no pixel and leave none between them, at any scale. A tile smaller than a pixel keeps one.

    Args:
        start: Left or top edge in pixels of the level the tile was read at; may be negative (padding).
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
    """Lay the weights of tiles over a thumbnail; where tiles overlap, their mean stands: the dense map of a slide.

    Args:
        weights: `(tiles,)`.
        x: `(tiles,)` left edges in pixels of the level the tiles were read at; NaN where a tile lies nowhere.
        y: `(tiles,)` top edges likewise.
        tile_size: Side of a tile in the same pixels.
        scale: Thumbnail pixels per such pixel.
        shape: Height and width of the thumbnail.

    Returns:
        `(height, width)`; NaN where there is no tile.

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


def blend(thumbnail: Pixels, values: Values, limits: tuple[float, float], colour_map: str, alpha: float) -> Pixels:
    """Lay colours over a thumbnail where there are values, (1 - a) thumbnail + a colour; a grows with the value.

    Args:
        thumbnail: uint8 `(height, width, 3)`.
        values: `(height, width)`, NaN where the thumbnail shall stay as it is.
        limits: Values of the two ends of the colour map.
        colour_map: Name of the colour map.
        alpha: Opacity at the high end, in [0, 1].

    Returns:
        uint8 `(height, width, 3)`, pixel on pixel with the thumbnail.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    low, high = limits
    known = ~np.isnan(values)
    share = np.clip((values[known] - low) / (high - low), 0, 1) if high > low else np.full(known.sum(), 0.5)
    opacity = (alpha * (LOW_OPACITY + (1 - LOW_OPACITY) * share))[:, None].astype(np.float32)
    result = thumbnail.copy()
    mixed = (1 - opacity) * thumbnail[known] + opacity * colours_of(values[known], limits, colour_map)
    result[known] = np.round(mixed).astype(np.uint8)
    return result


def outline_tiles(picture: Pixels, x: Values, y: Values, tile_size: float, scale: float) -> Pixels:
    """Draw the inner edge of each tile, to be seen on bright tissue and on dark, and return the picture."""
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
    """Colour the outermost pixels of a part of a picture."""
    for edge in (area[:1], area[-1:], area[:, :1], area[:, -1:]):
        edge[...] = colour


def draw_overlay(
    thumbnail: Pixels,
    weights: Values,
    x: Values,
    y: Values,
    tile_size: float,
    scale: float,
    *,
    title: str = "",
    microns_per_pixel: float | None = None,
    alpha: float = 0.6,
    colour_map: str = "viridis",
    outlines: bool = True,
    limits: tuple[float, float] | None = None,
) -> Image.Image:
    """Draw attention over the thumbnail of a slide, with colour bar, scale bar and the chosen tiles outlined.

    Overlapping tiles without outlines give the dense map.

    Args:
        thumbnail: uint8 `(height, width, 3)`.
        weights: `(tiles,)` attention, sums to 1.
        x: `(tiles,)` left edges in pixels of the level the tiles were read at.
        y: `(tiles,)` top edges.
        tile_size: Side of a tile in the same pixels.
        scale: Thumbnail pixels per such pixel.
        title: Stands above.
        microns_per_pixel: Of the thumbnail; None draws no scale bar.
        alpha: Opacity of the colours at the high end, in [0, 1].
        colour_map: One of `picture_frame.COLOUR_MAPS`.
        outlines: Whether tiles are outlined.
        limits: Weights at the ends of the colour bar; None takes `attention_limits`.
    """
    values = attention_map(weights, x, y, tile_size, scale, (thumbnail.shape[0], thumbnail.shape[1]))
    # Where tiles overlap their mean is drawn, which no colour of the largest weight would stand for.
    shown = float(np.max(values, initial=0.0, where=~np.isnan(values)))
    limits = limits or attention_limits(weights, shown)
    picture = blend(thumbnail, values, limits, colour_map, alpha)
    if outlines:
        picture = outline_tiles(picture, x, y, tile_size, scale)
    on_white = blend(np.full((1, 256, 3), 255, np.uint8), np.linspace(0, 1, 256)[None], (0, 1), colour_map, alpha)[0]
    bar = ColourBar(limits, on_white, "attention", (1 / max(len(weights), 1), "equal share"))
    return frame(picture, title, bar, microns_per_pixel)


def blend_mask(thumbnail: Pixels, mask: NDArray[np.integer], values: Mapping[int, str], alpha: float = 0.6) -> Pixels:
    """Lay one colour for each named value of a mask over a thumbnail.

    Args:
        thumbnail: uint8 `(height, width, 3)`.
        mask: int `(any height, any width)` over the same field; scaled to the thumbnail without mixing values.
        values: Mask value to name, what matters most first: its colour is seen first. Other values stay clear.
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
    """Put the truth beside an attention overlay.

    Args:
        overlay: From `draw_overlay`.
        thumbnail: The thumbnail of that overlay.
        mask: int, the label of each pixel or, from `label_map`, of each tile.
        values: Mask value to the name that stands in the legend, what matters most first.
        alpha: Opacity of the truth in [0, 1].
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
    """Return the label of the tile at each pixel of a thumbnail, -1 where there is none; of two, the greater."""
    result = np.full(shape, -1, dtype=np.int64)
    for label, left, top in sorted(zip(tile_labels, np.asarray(x, float), np.asarray(y, float), strict=True)):
        if not (np.isnan(left) or np.isnan(top)):
            area = tile_span(top, tile_size, scale, shape[0]), tile_span(left, tile_size, scale, shape[1])
            result[area] = label
    return result


def category_colours(count: int) -> list[tuple[int, int, int]]:
    """Return so many colours that every eye tells apart.

    Raises:
        ValueError: If more are wanted than there are.
    """
    if count > len(CATEGORY_COLOURS):
        raise ValueError(f"{count} kinds cannot be told apart by colour; name at most {len(CATEGORY_COLOURS)} of them")
    return list(CATEGORY_COLOURS[:count])


def _nearest(source: int, target: int) -> NDArray[np.int64]:
    """Return which of the source pixels holds the middle of each target pixel."""
    return ((np.arange(target) + 0.5) * source / target).astype(np.int64)
